"""What a screen is shown of a host or a server, and what it asks them to do."""
