"""What a run shows, checks and leaves behind."""
