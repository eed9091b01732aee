"""The evidence of this host: journals, container stores, the host log, the host's key."""
