"""What `jaxreloc map` and `jaxreloc query` do."""
