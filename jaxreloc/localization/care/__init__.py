"""Looking after maps: checking, merging and exporting them."""
