"""Pairs of frames to train and to test on."""
