"""TensorBoard: curves and pictures of a run, written by its first process alone."""

import pathlib
from collections.abc import Mapping

import jax
import numpy as np
import tensorboardX
from jaxtyping import UInt8


class Summaries:
    """Writes into `folder`; `tensorboard --logdir=folder` shows it.

    Args:
      start_step: of a resumed run; what an earlier process wrote from there on is hidden.
    """

    def __init__(self, folder: pathlib.Path, start_step: int):
        self._writer = None
        if jax.process_index() == 0:
            self._writer = tensorboardX.SummaryWriter(
                str(folder), purge_step=start_step + 1 if start_step else None
            )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point on each curve; names before the first slash group the curves."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def image(self, step: int, name: str, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        """A picture."""
        if self._writer is not None:
            self._writer.add_image(name, rgb, step, dataformats="HWC")
            self._writer.flush()

    def text(self, step: int, name: str, markdown: str) -> None:
        """A text, such as the config."""
        if self._writer is not None:
            self._writer.add_text(name, markdown, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
