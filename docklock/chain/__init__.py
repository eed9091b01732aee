"""A chain's node on this host: its directory, its process, the door to it, and a chain to try."""
