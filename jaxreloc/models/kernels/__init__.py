"""Convolution and pooling, fast on the backend in use."""
