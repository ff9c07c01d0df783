"""One camera's pose from its matches with posed images."""
