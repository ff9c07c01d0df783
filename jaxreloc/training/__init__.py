"""Training: losses, the pmapped step, the loop, checkpoints."""

from jaxreloc.training.loop import train_and_evaluate

__all__ = ["train_and_evaluate"]
