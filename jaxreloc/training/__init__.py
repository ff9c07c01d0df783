"""Training: losses, the pmapped step, the loop, checkpoints."""

from jaxreloc.extras import extra

with extra("train"):
    import ml_collections  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import tensorboardX  # noqa: F401

from jaxreloc.training.loop import train_and_evaluate

__all__ = ["train_and_evaluate"]
