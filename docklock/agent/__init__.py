"""The agent: one process a host that keeps containers as their policies say."""
