"""Run containers on this host and record what they do."""

__version__ = "0.1.0"
