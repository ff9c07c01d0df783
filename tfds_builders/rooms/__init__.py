"""Rendered rooms with exact poses, intrinsics and depth."""
