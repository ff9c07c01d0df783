"""Walls, furniture and textures of a room."""
