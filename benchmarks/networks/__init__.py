"""How fast networks run and train."""
