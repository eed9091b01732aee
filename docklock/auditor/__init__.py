"""Who reads other hosts' evidence at a server: a key, signed calls, files that prove themselves."""
