"""What results stand beside."""
