"""What can be trained: a module a task."""
