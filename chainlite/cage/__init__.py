"""The HTTP Cage: signed calls, each let through once, paid for and receipted (README.md)."""
