"""What makes a map of many images open at once, and search through few of them."""
