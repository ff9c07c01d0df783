"""Writing answers and maps in the formats of other programs."""
