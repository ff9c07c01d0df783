"""Pairs of turned views, of which only what a frozen backbone has pooled is kept."""
