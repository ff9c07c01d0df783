"""Trained networks as the localizer sees them."""
