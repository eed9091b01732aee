"""What work is worth: the PoE index and its signed bundles."""
