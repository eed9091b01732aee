"""Run containers on this host and record what they do."""

from __future__ import annotations

__version__ = "0.1.0"
