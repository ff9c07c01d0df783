"""How far answers are from the truth."""
