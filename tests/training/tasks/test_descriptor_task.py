"""The task `descriptors` around a network and a loss whose every number is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.descriptor import get_config
from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.training.losses.descriptor_losses import DescriptorLoss
from jaxreloc.training.tasks.descriptor_task import DescriptorResult, DescriptorTask
from tests.training.losses.test_descriptor_losses import HEIGHT, WIDTH, flat_wall

STRIDES = {"detail": 4, "fine": 8, "coarse": 16}
# What the loss weighs; each grid of the database images differs from the queries'.
SHARES = {"detail": (1.0, -2.0), "fine": (3.0, 5.0), "coarse": (-7.0, 11.0)}
PARAMS = {
    "network": {"backbone": {"gain": jnp.float32(0.5)}, "head": {"gain": jnp.float32(3.0)}},
    "loss": {"offset": jnp.float32(0.25)},
}
STATISTICS = {"backbone": {"mean": jnp.float32(20.0)}}


class Means:
    """A network that describes a cell by its mean colour."""

    def apply(self, variables, x, method):
        if method == "encode":
            mean = variables["batch_stats"]["backbone"]["mean"]
            return variables["params"]["backbone"]["gain"] * (x.astype(jnp.float32) + mean)
        assert method == "describe"
        gain = variables["params"]["head"]["gain"]
        return CellDescriptors(**{name: gain * means(x, s) for name, s in STRIDES.items()})


class WeighedSum:
    part_names = ("all",)

    def of_batch(self, own, descriptors, batch):
        total = own["offset"] + batch["weight"] * sum(
            share * getattr(side, name).sum(axis=(1, 2, 3))
            for name, shares in SHARES.items()
            for share, side in zip(shares, descriptors, strict=True)
        )
        return total, {"all": 2 * total}


ROUNDING = 1.0  # of sums of some 1e5
TASK = DescriptorTask(Means(), WeighedSum())


def means(images, stride):
    batch, height, width, channels = images.shape
    shape = batch, height // stride, stride, width // stride, stride, channels
    return images.reshape(shape).mean(axis=(2, 4))


def batch_of(rng, count=3):
    """Pictures with a black canvas of other widths on either side."""
    images = {name: rng.integers(1, 256, (count, 32, 48, 3), np.uint8) for name in ("db", "query")}
    images["db"][:, :, 36:], images["query"][:, :8] = 0, 0
    weight = rng.uniform(1, 2, count).astype(np.float32)
    return {"db_image": images["db"], "query_image": images["query"], "weight": weight}


def expected_sums(batch):
    """Of each pair: the shares of all cells that are not black, without the head's gain."""
    total = 0
    for name, shares in SHARES.items():
        for share, side in zip(shares, ("db", "query"), strict=True):
            cells = means(batch[f"{side}_image"].astype(np.float64), STRIDES[name])
            shown = cells.max(axis=-1, keepdims=True) > 0
            total = total + share * (shown * 0.5 * (cells + 20)).sum(axis=(1, 2, 3))
    return batch["weight"] * total


@jax.jit
def gradient_and_losses(batch):
    def total(params):
        losses = TASK.losses(params, STATISTICS, batch)
        return losses[0].sum(), losses

    return jax.grad(total, has_aux=True)(PARAMS)


def test_the_loss_is_of_the_database_and_the_query_without_their_canvas(rng):
    batch = batch_of(rng)
    _, (loss, parts, statistics) = gradient_and_losses(batch)
    expected = 0.25 + 3 * expected_sums(batch)
    np.testing.assert_allclose(loss, expected, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(parts["all"], 2 * loss)
    assert statistics == STATISTICS


def test_the_backbone_gets_no_gradient(rng):
    """The loss is the sum above times the head's gain, so that sum is its gradient."""
    batch = batch_of(rng)
    gradient, _ = gradient_and_losses(batch)
    assert gradient["network"]["backbone"]["gain"] == 0
    found = gradient["network"]["head"]["gain"]
    np.testing.assert_allclose(found, expected_sums(batch).sum(), rtol=0, atol=ROUNDING)
    assert gradient["loss"]["offset"] == 3


def coloured_cells(rng):
    """A picture whose coarse cells differ in the ratio of red to green, 3.75 degrees apart."""
    angle = np.radians(3.75 * rng.permutation(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH))
    colours = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    return np.rint(255 * colours).astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)[None]


class UnitMeans(Means):
    def apply(self, variables, x, method):
        if method == "encode":
            return x.astype(jnp.float32)
        cells = super().apply(variables, x, method)
        return jax.tree.map(lambda y: y / jnp.linalg.norm(y, axis=-1, keepdims=True), cells)


@jax.jit
def errors(batch):
    return DescriptorTask(UnitMeans(), WeighedSum()).errors(PARAMS, STATISTICS, batch)


def test_the_cells_that_find_their_match_are_counted(rng):
    """The query's camera stands a coarse cell further right, or its picture is another one."""
    db = coloured_cells(rng)
    batch = flat_wall(rng, shift_cells=1) | {"weight": np.ones(1, np.float32), "db_image": db}
    found = errors(batch | {"query_image": np.roll(db, -16, axis=2)})
    assert found["matched_cells"] == found["visible_cells"] == HEIGHT * (WIDTH - 1)
    wrong = errors(batch | {"query_image": np.roll(db, 32, axis=2)})
    assert wrong["visible_cells"] == HEIGHT * (WIDTH - 1)
    assert wrong["matched_cells"] == 0
    assert set(found) == {"loss", "matched_cells", "visible_cells"}


def test_a_result_is_over_the_cells_of_all_pairs():
    """5 of 6 and 0 of 2 cells are 5 of 8, whatever the mean of both shares."""
    measured = {
        "loss": np.array([1.0, 2.5]),
        "matched_cells": np.array([5, 0]),
        "visible_cells": np.array([6, 2]),
    }
    result = TASK.result(measured, None, {})
    assert result == DescriptorResult(loss=1.75, coarse_accuracy=0.625)
    assert result.figures() == {"loss": 1.75, "coarse_accuracy": 0.625}
    assert result.figures()[result.selected_by] == 1.75 and result.pictures is None
    assert str(result) == "loss 1.75, 62.5% of coarse cells matched right"
    nothing = measured | {"matched_cells": np.zeros(2), "visible_cells": np.zeros(2)}
    assert TASK.result(nothing, None, {}).coarse_accuracy == 0


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(DescriptorLoss)])
def test_the_config_weighs_the_parts(name):
    config = get_config().copy_and_resolve_references().unlock()
    assert DescriptorTask.of_config(config).loss == DescriptorLoss(0.5, 0.5, 0.3, 1.0)
    config.loss[name] = 0.125
    assert DescriptorTask.of_config(config).loss == dataclasses.replace(
        DescriptorLoss(0.5, 0.5, 0.3, 1.0), **{name: 0.125}
    )
