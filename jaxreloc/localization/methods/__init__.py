"""From a query and its neighbours to a pose: a module a method."""
