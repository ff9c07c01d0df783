"""The `jaxreloc` command: a module a subcommand, whose functions parse and call.

Nothing here imports JAX before the flags are parsed, so that help and mistakes are quick.
"""
