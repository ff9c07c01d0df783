"""The database images that a query is compared with."""
