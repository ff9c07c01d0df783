"""Camera relocalization by relative poses to retrieved images, in scenes never trained on."""
