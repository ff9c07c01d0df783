"""Meshes, light and pictures of them."""
