"""Widgets: one a file. Attributes go down to them, messages come up from them."""
