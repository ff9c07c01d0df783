"""Training a network on pairs from first to last step."""

import itertools
import os
import pathlib

import jax
import ml_collections
import numpy as np
from flax import jax_utils

from jaxreloc.models import build_network, init_variables, saved_network
from jaxreloc.training import inputs, losses, optimizer, step
from jaxreloc.training.inputs import PairSet
from jaxreloc.training.progress import Progress
from jaxreloc.training.state import TrainState, create_state

PREFETCH = 2


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> dict[str, float]:
    """Trains as `config` says and leaves in `workdir` the network of the last step and the best.

    Returns:
      The validation errors of the best step.
    """
    workdir = pathlib.Path(workdir).absolute()
    train, validation = inputs.load_training_pairs(config), inputs.load_validation_pairs(config)
    network = build_network(config.model, axis_name=step.AXIS)
    loss = losses.build_loss(config.loss)
    tx, _ = optimizer.build_optimizer(config.optimizer, config.num_steps)
    variables = init_variables(network, jax.random.key(config.seed))
    state = jax_utils.replicate(create_state(variables, loss, tx), axis_name=step.AXIS)
    train_step = step.make_train_step(network, loss, tx, accumulation=config.accumulation)
    validation_step = step.make_validation_step(network, loss)

    best = {"position_error": float("inf")}
    progress = Progress(0, config.num_steps, config.batch_size)
    batches = jax_utils.prefetch_to_device(
        map(inputs.shard, train.loader.batches(0)), PREFETCH, axis_name=step.AXIS
    )
    for number, batch in enumerate(itertools.islice(batches, config.num_steps), start=1):
        state, metrics = train_step(state, batch)
        progress.step()
        if number == 1 or number % config.log_every == 0:
            metrics = jax.tree.map(float, jax_utils.unreplicate(metrics))
            progress.report(number, {"loss": metrics["loss"]})
        if number % config.validate_every == 0 or number == config.num_steps:
            errors = validate(validation_step, state, validation)
            progress.say(f"validation at step {number}: {errors}")
            variables = jax.device_get(jax_utils.unreplicate(state)).network_variables()
            if errors["position_error"] < best["position_error"]:
                best = errors
                saved_network.save_network(workdir / "best", config, variables)
            saved_network.save_network(workdir / "last", config, variables)
    progress.close()
    return best


def validate(validation_step, state: TrainState, pairs: PairSet) -> dict[str, float]:
    """Medians over the validation pairs: `position_error` (m), `rotation_error_deg`; mean `loss`."""
    results = []
    for batch in pairs.loader.batches():
        result = jax_utils.unreplicate(validation_step(state, inputs.shard(batch)))
        results.append(jax.tree.map(lambda x: np.asarray(x)[np.asarray(result["mask"])], result))
    merged = {name: np.concatenate([r[name] for r in results]) for name in results[0]}
    return {
        "loss": float(np.mean(merged["loss"])),
        "position_error": float(np.median(merged["position_error"])),
        "rotation_error_deg": float(np.degrees(np.median(merged["rotation_error"]))),
    }
