"""The pair head, trained on features that it is given."""

import jax
import numpy as np
import pytest

from configs.pairs import get_config
from jaxreloc.training.optimizer import build_optimizer
from jaxreloc.training.state import create_state
from jaxreloc.training.step import make_train_step, make_validation_step
from jaxreloc.training.tasks.head_task import HeadTask


@pytest.mark.parametrize("grid, shape", [(None, (512,)), ((2, 3), (2, 3, 512))])
def test_only_the_head_learns(rng, grid, shape):
    """The loss falls, and neither the backbone nor its statistics change."""
    config = get_config("seven").copy_and_resolve_references()
    with config.unlocked():
        config.model.backbone = "resnet18"
        config.model.pretrained = None
        config.model.grid = grid
        config.optimizer.warmup_steps = 1
    task = HeadTask.of_config(config)
    optimizer, _ = build_optimizer(config.optimizer, config.num_steps)
    first = create_state(task.first_variables(config), task.loss, optimizer)
    q_wxyz = rng.normal(size=(8, 4)) * [0, 0.1, 0.1, 0.1] + [1, 0, 0, 0]
    q_wxyz /= np.linalg.norm(q_wxyz, axis=1, keepdims=True)
    pose = np.concatenate([q_wxyz, rng.normal(size=(8, 3))], axis=1)
    batch = {
        "db_features": rng.random((1, 8, *shape)).astype(np.float16),
        "query_features": rng.random((1, 8, *shape)).astype(np.float16),
        "db_from_query": pose[None].astype(np.float32),
        "mask": np.ones((1, 8), bool),
        "pair_index": np.arange(8)[None],
    }
    state = jax.tree.map(lambda x: np.asarray(x)[None], first)
    step, losses = make_train_step(task, optimizer), []
    for _ in range(30):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"][0]))
    assert losses[-1] < 0.5 * losses[0]
    both = (
        (first.params["network"]["backbone"], state.params["network"]["backbone"]),
        (first.batch_stats["backbone"], state.batch_stats["backbone"]),
    )
    for before, after in both:
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[0]), before, after)
    measured = make_validation_step(task)(state, batch)
    result = task.result({k: np.asarray(v[0]) for k, v in measured.items()}, None, batch)
    assert result.selected_by in result.figures() and np.isfinite(result.position_error_m)
