"""Small algebra in lanes, and the consensus searches of fusion."""
