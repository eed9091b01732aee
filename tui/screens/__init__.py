"""One screen a file, opened by its name in tui.places."""
