"""The training and validation steps, under `jax.pmap` over every device of every process.

A batch is one of image pairs (`data.loader`), with depth where descriptors are trained, or, where
only the metric head is trained, of matched pairs (`training.match_loader`). It has leaves
`[devices, examples of the device, ...]`. The loss is the mean over the examples of the global batch
for which `mask` is True, and the gradient its derivative, so neither depends on the number of
devices; batch statistics are those of the global batch where the network was built with
`axis_name=AXIS`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxreloc.compilation import compiler_options
from jaxreloc.geometry import errors
from jaxreloc.models import RelativePose, SiameseNetwork
from jaxreloc.models.matching import descriptors
from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.training.inputs.match_augmentation import MatchAugmentation
from jaxreloc.training.losses import descriptor_losses, pose_losses
from jaxreloc.training.state import TrainState

AXIS = "devices"

Batch = Mapping[str, Array]
Metrics = dict[str, Float[Array, ""]]


def make_train_step(
    network: SiameseNetwork,
    loss: pose_losses.Loss,
    optimizer: optax.GradientTransformation,
    *,
    accumulation: int = 1,
    augmentation: MatchAugmentation | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The pmapped `(state, batch) -> (state, metrics)`, one update of the parameters.

    Args:
      accumulation: how many parts each device's examples are split into, one after the other, to
        save memory. The gradient is still the whole batch's; batch statistics are each part's.
      augmentation: of matched pairs.

    Metrics: `loss`, `loss/PART` for each part (unweighted), `gradient_norm`, and `weight/PART` for
    learned weights; equal on all devices.
    """

    def loss_of_part(params, batch_stats, part, num_examples):
        variables = {"params": params["network"], "batch_stats": batch_stats}
        if augmentation is not None:
            part = _augmented(part, augmentation)
        predicted, updates = _apply(network, variables, part, train=True)
        per_example, parts = loss.of_batch(params["loss"], predicted, part)
        sums = {"loss": per_example} | {f"loss/{name}": x for name, x in parts.items()}
        sums = {
            name: jnp.sum(jnp.where(part["mask"], x, 0.0)) / num_examples
            for name, x in sums.items()
        }
        return sums["loss"], (sums, updates.get("batch_stats", batch_stats))

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

        names = ("loss", *(f"loss/{name}" for name in loss.part_names))
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

    return _compiled(jax.pmap(train_step, axis_name=AXIS, donate_argnums=0))


def make_validation_step(
    network: SiameseNetwork, loss: pose_losses.PairLoss
) -> Callable[[TrainState, Batch], dict[str, Float[Array, "devices B"]]]:
    """The pmapped `(state, batch) -> per-example errors` with the running batch statistics.

    The result has every example of the global batch, on every device: `loss`, the batch's `mask`
    and `pair_index`, and what measures the prediction. Of poses that is `position_error` (metres),
    `rotation_error` (radians) and `predicted_wxyz_xyz`, of matched pairs also `overlaps` and
    `overlap_logit`; of descriptors it is `matched_cells` of `visible_cells`.
    """

    def validation_step(state: TrainState, batch: Batch) -> dict[str, Array]:
        predicted, _ = _apply(network, state.network_variables(), batch, train=False)
        per_example, _ = loss.of_batch(state.params["loss"], predicted, batch)
        result = {name: batch[name] for name in ("mask", "pair_index")} | {"loss": per_example}
        if _is_of_descriptors(batch):
            counts = descriptor_losses.coarse_matches(predicted, batch)
            result |= dict(zip(("matched_cells", "visible_cells"), counts, strict=True))
        else:
            result |= _pose_errors(predicted, batch)
        return jax.lax.all_gather(result, AXIS, tiled=True)

    return _compiled(jax.pmap(validation_step, axis_name=AXIS))


def _pose_errors(predicted: RelativePose, batch: Batch) -> dict[str, Array]:
    q_wxyz = predicted.q_wxyz / pose_losses.norm(predicted.q_wxyz)[..., None]
    pose = jaxlie.SE3(jnp.concatenate([q_wxyz, predicted.t], axis=-1))
    true_pose = jaxlie.SE3(batch["db_from_query"])
    result = {
        "position_error": errors.position_error(pose, true_pose),
        "rotation_error": errors.rotation_error(pose.rotation(), true_pose.rotation()),
        "predicted_wxyz_xyz": pose.wxyz_xyz,
    }
    if "overlaps" in batch:
        logit = predicted.reliability.overlap_logit
        result |= {"overlaps": batch["overlaps"], "overlap_logit": logit}
    return result


def _compiled(pmapped: Callable) -> Callable:
    """`(state, batch)` of `pmapped`, compiled with the options that suit the backend.

    pmap itself takes none, and over several processes only pmap itself turns local arrays into
    global ones: those run with XLA's defaults.
    """
    options = compiler_options.convolutions()
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


def _augmented(batch: Batch, augmentation: MatchAugmentation) -> Batch:
    matches, pose = augmentation(
        RayMatches(**batch["matches"]), jaxlie.SE3(batch["db_from_query"]), batch["draw"]
    )
    fields = {name: getattr(matches, name) for name in batch["matches"]}
    return {**batch, "matches": fields, "db_from_query": pose.wxyz_xyz}


def _is_of_descriptors(batch: Batch) -> bool:
    return "query_depth" in batch


def _apply(network: SiameseNetwork, variables: dict[str, Any], batch: Batch, train: bool):
    """What the network predicts, poses or the descriptors of both images; and updated variables."""
    if "matches" in batch:
        matches = RayMatches(**batch["matches"])
        regress = functools.partial(network.apply, method=lambda net, x: net.head.regress(x))
        return regress(variables, matches), {}
    images = batch["db_image"], batch["query_image"]
    if _is_of_descriptors(batch):
        return network.apply(variables, *images, method=_describe_both), {}
    return network.apply(
        variables,
        *images,
        batch["db_intrinsics"],
        batch["query_intrinsics"],
        train,
        mutable=["batch_stats"] if train else [],
    )


def _describe_both(network: SiameseNetwork, db_images: Array, query_images: Array):
    """The descriptors of both images; the backbone is left as it is."""
    images = jnp.concatenate([db_images, query_images])
    features = jax.lax.stop_gradient(network.encode(images, False))
    cells = descriptors.without_canvas(network.head.describe(features), images)
    count = len(db_images)
    return tuple(jax.tree.map(lambda x: x[half], cells) for half in (np.s_[:count], np.s_[count:]))
