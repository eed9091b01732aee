"""The terminal UI. Empty until its first issue; it will import only docklock's client."""
