"""Training and validation steps on matched pairs: the head alone, its augmentation and its loss."""

import functools

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import optax
import pytest
from flax import jax_utils
from flax import linen as nn

from jaxreloc.models import RelativePose
from jaxreloc.models.heads.pose_prediction import PairReliability
from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.training import step
from jaxreloc.training.inputs import pair_inputs
from jaxreloc.training.inputs.match_augmentation import MatchAugmentation
from jaxreloc.training.inputs.match_loader import MATCH_FIELDS, MatchLoader
from jaxreloc.training.inputs.matched_inputs import MatchedSet
from jaxreloc.training.losses.correlation_losses import CorrelationLoss
from jaxreloc.training.monitoring.validation import validate
from jaxreloc.training.state import create_state
from jaxreloc.training.tasks.match_task import MatchTask, area_under_curve
from tests.training import planted_matches

AUGMENTATION = MatchAugmentation()


class MeanHead(nn.Module):
    """A linear map of the matches' mean."""

    @nn.compact
    def regress(self, matches: RayMatches) -> RelativePose:
        flow = matches.x_db - matches.x_query
        inputs = flow, matches.x_query, matches.confidence[..., None]
        means = [jnp.mean(x, axis=1) for x in inputs]
        out = nn.Dense(10, name="linear")(jnp.concatenate(means, axis=-1))
        return RelativePose(
            t=out[:, :3],
            q_wxyz=jnp.array([[1.0, 0, 0, 0]]) + 0.1 * out[:, 3:7],
            reliability=PairReliability(out[:, 7], out[:, 8], out[:, 9]),
        )


class Network(nn.Module):
    head: nn.Module

    def regress(self, matches):
        return self.head.regress(matches)

    __call__ = regress


@functools.cache
def network_and_state():
    network = Network(MeanHead())
    matches = RayMatches(*(jnp.zeros((1, 4, 2)),) * 2, *(jnp.zeros((1, 4)),) * 3)
    variables = network.init(jax.random.key(0), matches)
    state = create_state(variables, CorrelationLoss(), optax.sgd(0.1))
    return network, state


def replicated_state():
    return jax_utils.replicate(network_and_state()[1], axis_name=step.AXIS)


def one_batch(rng, count=8):
    loader = MatchLoader(planted_matches.matched_pairs(rng), batch_size=count, train=True)
    return next(loader.batches())


@functools.partial(jax.jit, static_argnames="augmentation")
@jax.value_and_grad
def loss_by_hand(params, batch, augmentation):
    matches, pose = RayMatches(**batch["matches"]), jaxlie.SE3(jnp.asarray(batch["db_from_query"]))
    if augmentation is not None:
        matches, pose = augmentation(matches, pose, batch["draw"])
    predicted = network_and_state()[0].apply({"params": params}, matches)
    return jnp.mean(CorrelationLoss()(predicted, pose.wxyz_xyz, batch["overlaps"])[0])


@pytest.mark.parametrize("augmentation", [None, AUGMENTATION])
def test_a_step_descends_the_loss_of_the_augmented_matches(augmentation, rng):
    batch = one_batch(rng)
    network, state = network_and_state()
    params = state.params["network"]
    value, gradient = loss_by_hand(params, batch, augmentation)
    task = MatchTask(network, CorrelationLoss(), augmentation)
    train_step = step.make_train_step(task, optax.sgd(0.1))
    after, metrics = train_step(replicated_state(), pair_inputs.shard(batch))
    np.testing.assert_allclose(metrics["loss"][0], value, rtol=1e-4)
    parts = {name.removeprefix("loss/") for name in metrics if name.startswith("loss/")}
    assert parts == set(CorrelationLoss().part_names)
    after = jax_utils.unreplicate(after).params["network"]
    expected = jax.tree.map(lambda x, g: x - 0.1 * g, params, gradient)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, after, expected)


def test_validation_is_of_overlapping_pairs_and_ranks_overlap(rng):
    pairs = planted_matches.matched_pairs(rng, count=11)
    network, state = network_and_state()
    held_out = MatchedSet(["hall"], pairs, MatchLoader(pairs, batch_size=8, train=False))
    task = MatchTask(network, CorrelationLoss())
    result = validate(task, step.make_validation_step(task), replicated_state(), held_out)
    matches = RayMatches(*(jnp.asarray(getattr(pairs, k)) for k in MATCH_FIELDS))
    predicted = network.apply(state.network_variables(), matches)
    overlaps = pairs.overlap > 0
    error = np.linalg.norm(predicted.t - pairs.db_from_query[:, 4:], axis=1)
    assert result.position_error_m == pytest.approx(np.median(error[overlaps]), rel=1e-5)
    logit = np.asarray(predicted.reliability.overlap_logit)
    in_order = np.mean(logit[overlaps][:, None] > logit[~overlaps][None])
    assert result.overlap_auc == pytest.approx(in_order)
    assert result.pictures is None
    assert f"overlap AUC {in_order:.4f}" in str(result)


def test_area_under_the_curve_counts_ties_by_half():
    score = np.array([3.0, 1.0, 2.0, 2.0])
    assert area_under_curve(score, np.array([True, False, True, False])) == pytest.approx(0.875)
    assert area_under_curve(score, score > 1) == 1.0
    assert np.isnan(area_under_curve(score, np.ones(4, bool)))
