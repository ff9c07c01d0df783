"""Cells of pictures, described once, of which a matcher with context learns."""
