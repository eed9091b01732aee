"""OCI images on this host: the store, what comes in, what goes out. See README.md."""
