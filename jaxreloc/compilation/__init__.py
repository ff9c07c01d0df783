"""How XLA compiles, and where its programs are kept."""
