"""The host's evidence on its way to servers: what goes where, and what each has acknowledged."""
