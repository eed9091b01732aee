"""The terminal UI: what runs, what it does, and whether the evidence is whole."""
