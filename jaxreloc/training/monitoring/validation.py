"""What a task measures on all validation examples."""

from collections.abc import Callable

import numpy as np
from flax import jax_utils

from jaxreloc.training.inputs.pair_inputs import shard
from jaxreloc.training.state import TrainState
from jaxreloc.training.tasks.task import Examples, Result, Task


def validate(task: Task, step: Callable, state: TrainState, examples: Examples) -> Result:
    """Runs a validation step over the examples; every one counts once.

    Args:
      step: from `step.make_validation_step`.
    """
    measured, first = [], None
    for batch in examples.loader.batches():
        first = batch if first is None else first
        result = jax_utils.unreplicate(step(state, shard(batch)))
        result = {name: np.asarray(x) for name, x in result.items()}
        measured.append({name: x[result["mask"]] for name, x in result.items()})
    merged = {name: np.concatenate([m[name] for m in measured]) for name in measured[0]}
    return task.result(merged, examples, first)
