"""The matching in context, trained on cells that it is given."""

import jax
import numpy as np

from configs.context import get_config
from jaxreloc.models.matching.context import context_matching
from jaxreloc.models.matching.context.context_matching import COMPARED
from jaxreloc.training.optimizer import build_optimizer
from jaxreloc.training.state import create_state
from jaxreloc.training.step import make_train_step, make_validation_step
from jaxreloc.training.tasks.context_task import ContextTask
from tests.models.matching.planted import unit

SHAPE, PAIRS = (4, 6), 4


def shifted_pairs(rng):
    """Pictures of a wall, the second one moved by two cells; the descriptors hardly tell."""
    cells = rng.normal(size=(PAIRS, SHAPE[0], SHAPE[1] + 2, 96))
    noise = rng.normal(size=(2, PAIRS, *SHAPE, 96))
    sides = {"db": cells[:, :, :-2] + noise[0], "query": cells[:, :, 2:] + noise[1]}
    focal = 16.0 * SHAPE[1]
    intrinsics = np.float32([[focal, 0, focal / 2], [0, focal, 32], [0, 0, 1]])
    batch = {
        "db_from_query": np.tile(np.float32([1, 0, 0, 0, 2 * 16 * 2 / focal, 0, 0]), (PAIRS, 1)),
        "mask": np.ones(PAIRS, bool),
        "pair_index": np.arange(PAIRS),
    }
    for name, x in sides.items():
        batch |= {
            f"{name}_coarse": np.rint(127 * unit(x)).astype(np.int8),
            f"{name}_fine": np.tile(np.rint(127 * unit(x[..., :48])).astype(np.int8), 4),
            f"{name}_origin": np.zeros((PAIRS, 2), np.int32),
            f"{name}_depth": np.full((PAIRS, 4 * SHAPE[0], 4 * SHAPE[1]), 2.0, np.float32),
            f"{name}_intrinsics": np.tile(intrinsics, (PAIRS, 1, 1)),
        }
    return {name: x[None] for name, x in batch.items()}


def test_only_the_context_learns(rng, monkeypatch):
    """The loss falls, and nothing changes of what makes and compares the descriptors.

    One block of attention compiles in a third of the time of all.
    """
    monkeypatch.setattr(context_matching, "BLOCKS", 1)
    config = get_config().copy_and_resolve_references()
    with config.unlocked():
        config.optimizer.warmup_steps = 1
    task = ContextTask.of_config(config)
    optimizer, _ = build_optimizer(config.optimizer, config.num_steps)
    first = create_state(task.first_variables(config), task.loss, optimizer)
    batch = shifted_pairs(rng)
    state = jax.tree.map(lambda x: np.asarray(x)[None], first)
    validate = make_validation_step(task)

    def result():
        measured = {name: np.asarray(x[0]) for name, x in validate(state, batch).items()}
        return task.result(measured, None, batch)

    before = result()
    step, losses = make_train_step(task, optimizer), []
    for _ in range(40):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"][0]))
    assert losses[-1] < 0.5 * losses[0]
    after = result()
    assert after.plain_accuracy == before.plain_accuracy == before.accuracy <= after.accuracy
    assert after.loss < before.loss and after.selected_by in after.figures()
    learned, old = state.params["network"], first.params["network"]
    for part in ("backbone", "description"):
        one, other = ((x["head"] if part == "description" else x)[part] for x in (old, learned))
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[0]), one, other)
    assert np.any(learned["head"]["context"]["shifted"]["kernel"][0] != 0)
    assert old["head"]["context"]["compared"]["kernel"].shape[1] == COMPARED
