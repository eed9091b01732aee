"""The server that hosts' evidence goes to: what it takes, verifies, keeps and acknowledges."""
