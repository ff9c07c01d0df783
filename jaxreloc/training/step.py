"""The training and validation steps, under `jax.pmap` over every device of every process.

A batch has leaves `[devices, examples of the device, ...]`, which the task knows. The loss is the
mean over the examples of the global batch for which `mask` is True, and the gradient its
derivative, so neither depends on the number of devices; batch statistics are those of the global
batch where the network was built with `axis_name=AXIS`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxreloc.training.state import TrainState
from jaxreloc.training.tasks.task import Batch, Task

AXIS = "devices"

Metrics = dict[str, Float[Array, ""]]


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    accumulation: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The pmapped `(state, batch) -> (state, metrics)`, one update of the parameters.

    Args:
      accumulation: how many parts each device's examples are split into, one after the other, to
        save memory. The gradient is still the whole batch's; batch statistics are each part's.

    Metrics: `loss`, `loss/PART` for each part (unweighted), `gradient_norm`, and `weight/PART` for
    learned weights; equal on all devices.
    """

    def loss_of_part(params, batch_stats, part, num_examples):
        per_example, parts, batch_stats = task.losses(params, batch_stats, part)
        sums = {"loss": per_example} | {f"loss/{name}": x for name, x in parts.items()}
        sums = {
            name: jnp.sum(jnp.where(part["mask"], x, 0.0)) / num_examples
            for name, x in sums.items()
        }
        return sums["loss"], (sums, batch_stats)

    def gradient_and_sums(state: TrainState, batch: Batch):
        num_examples = jnp.maximum(jax.lax.psum(jnp.sum(batch["mask"]), AXIS), 1)
        gradient_of_part = jax.grad(loss_of_part, has_aux=True)
        if accumulation == 1:
            gradient, aux = gradient_of_part(state.params, state.batch_stats, batch, num_examples)
            return gradient, *aux

        def accumulate(carry, part):
            gradient, sums, batch_stats = carry
            more = gradient_of_part(state.params, batch_stats, part, num_examples)
            more_gradient, (more_sums, batch_stats) = more
            total = jax.tree.map(jnp.add, (gradient, sums), (more_gradient, more_sums))
            return (*total, batch_stats), None

        names = ("loss", *(f"loss/{name}" for name in task.loss.part_names))
        zero = jax.tree.map(jnp.zeros_like, state.params), dict.fromkeys(names, jnp.float32(0))
        parts = jax.tree.map(lambda x: x.reshape(accumulation, -1, *x.shape[1:]), batch)
        carry, _ = jax.lax.scan(accumulate, (*zero, state.batch_stats), parts)
        return carry

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        gradient, metrics, batch_stats = gradient_and_sums(state, batch)
        gradient, metrics = jax.lax.psum((gradient, metrics), AXIS)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        metrics |= {f"weight/{k}": jnp.exp(-s) for k, s in state.params["loss"].items()}
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=jax.lax.pmean(batch_stats, AXIS),
            opt_state=opt_state,
        )
        return state, metrics

    return _compiled(jax.pmap(train_step, axis_name=AXIS, donate_argnums=0), task)


def make_validation_step(
    task: Task,
) -> Callable[[TrainState, Batch], dict[str, Float[Array, "devices B"]]]:
    """The pmapped `(state, batch) -> per-example errors` with the running batch statistics.

    The result has every example of the global batch, on every device: the batch's `mask` and
    `pair_index`, and `task.errors`.
    """

    def validation_step(state: TrainState, batch: Batch) -> dict[str, Array]:
        result = {name: batch[name] for name in ("mask", "pair_index")}
        result |= task.errors(state.params, state.batch_stats, batch)
        return jax.lax.all_gather(result, AXIS, tiled=True)

    return _compiled(jax.pmap(validation_step, axis_name=AXIS), task)


def _compiled(pmapped: Callable, task: Task) -> Callable:
    """`(state, batch)` of `pmapped`, compiled with the options that suit the backend.

    pmap itself takes none, and over several processes only pmap itself turns local arrays into
    global ones: those run with XLA's defaults.
    """
    options = task.compiler_options()
    if not options or jax.process_count() > 1:
        return pmapped
    by_shapes = {}

    def call(state: TrainState, batch: Batch):
        shapes = tuple(x.shape for x in jax.tree.leaves(batch))
        if shapes not in by_shapes:
            lowered = pmapped.lower(state, batch)
            by_shapes[shapes] = lowered.compile(compiler_options=options)
        return by_shapes[shapes](state, batch)

    call.lower = pmapped.lower
    return call
