"""The same jobs on a cluster of Ray: maps built, queries answered in bulk, rooms rendered, served.

Needs the extra `ray`. Nothing of it is imported unless a command is given `--engine=ray`.
"""
