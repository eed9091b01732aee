"""What a stranger can check of the chain: that work was sequential, that an event is final."""
