"""Pairs of turned and moved views, of which only the features of a frozen backbone are kept."""
