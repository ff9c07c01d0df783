"""Maps from photographs or a video without poses, by structure from motion."""
