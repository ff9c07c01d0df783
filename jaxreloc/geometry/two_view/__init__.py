"""The geometry of two views."""
