"""The database side of a scene, in memory and on disk."""
