"""Camera paths through rooms: how they are found, and those that are known."""
