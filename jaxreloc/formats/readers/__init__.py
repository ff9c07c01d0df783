"""A module a format of posed images."""
