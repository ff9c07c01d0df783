"""What is done for a request: the open maps, the queue of queries, and the answers as JSON."""
