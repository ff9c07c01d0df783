"""`Task`: all that a run knows of what it trains."""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import ml_collections
import numpy as np
from jaxtyping import Array, Float, UInt8

from jaxreloc.training.losses.pose_losses import Loss

Batch = Mapping[str, Array]
Params = dict[str, Any]  # {"network": the network's, "loss": the loss's, often none}


@runtime_checkable
class Loader(Protocol):
    """Batches of host arrays `[examples of this process, ...]`, `mask` and `pair_index` in each."""

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """In training without end, from a step on; in validation each example once."""


@runtime_checkable
class Examples(Protocol):
    """What a run trains on, or is validated on."""

    scenes: list
    pairs: Any  # of which there are `len`
    loader: Loader

    def fingerprint(self) -> int:
        """The same for equal data in equal order alone."""

    def frame_names(self, pair_index: int) -> tuple[str, str]:
        """The two images of a pair."""


@runtime_checkable
class Result(Protocol):
    """What a validation has found; `str` says it in a line."""

    selected_by: str  # the figure that the best network has least of
    pictures: UInt8[np.ndarray, "h w 3"] | None

    def figures(self) -> dict[str, float]:
        """The numbers alone, `selected_by` among them."""


@runtime_checkable
class Task(Protocol):
    """Its input pipeline, its network, its loss and its metrics.

    Attributes:
      loss: its own parameters and the names of its parts.
      compiler_options: gives those that suit its steps.
    """

    loss: Loss
    compiler_options: Callable[[], Mapping[str, Any]]

    def load(
        self, config: ml_collections.ConfigDict, say: Callable[[str], None]
    ) -> tuple[Examples, Examples]:
        """Training and validation examples; `say` takes a line on what takes long."""

    def first_variables(self, config: ml_collections.ConfigDict) -> dict[str, Any]:
        """`{"params", "batch_stats"}` that training starts from."""

    def losses(
        self, params: Params, batch_stats: Any, batch: Batch
    ) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]], Any]:
        """In training, each example's loss, its parts, and the batch statistics after it.

        The mean over examples is the mean over devices with the pmap axis `step.AXIS`.
        """

    def errors(self, params: Params, batch_stats: Any, batch: Batch) -> dict[str, Array]:
        """In validation, what measures each example; `loss` among it."""

    def result(
        self, measured: Mapping[str, np.ndarray], examples: Examples, first: Batch
    ) -> Result:
        """What the errors of all validation examples say.

        Args:
          measured: by name, each of a leading axis over the examples in order.
          examples: which they are of.
          first: their first batch, for pictures.
        """

    def save(
        self, folder: pathlib.Path, config: ml_collections.ConfigDict, variables: dict[str, Any]
    ) -> None:
        """Writes a network that `load_network` reads."""


def variables_of(params: Params, batch_stats: Any) -> dict[str, Any]:
    """What a network is applied with."""
    return {"params": params["network"], "batch_stats": batch_stats}
