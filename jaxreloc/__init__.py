"""Camera relocalization by relative poses to retrieved images, in scenes never trained on."""

__version__ = "0.1.0"
