"""Other methods on the same pictures."""
