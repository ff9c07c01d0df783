"""How fast the parts are, each beside a peer or a limit."""
