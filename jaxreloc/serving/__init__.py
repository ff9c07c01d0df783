"""The HTTP server, its page, and the client (extra `serve`, which the client does without)."""
