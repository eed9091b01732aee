"""What everyone must agree on or be able to check: formats, keys, trees, verification.

This package imports nothing of docklock, enc or tui.
"""
