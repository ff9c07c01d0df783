"""Standardised, normalised cell descriptors of a backbone's maps."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreloc.models import build
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.matching.description import EPSILON, TAPS, CellDescription, imagenet_statistics


def test_standardises_channels_and_normalises_cells(rng):
    maps = {
        "detail": rng.normal(0.5, 1.0, (2, 8, 12, 3)).astype(np.float32),
        "fine": rng.normal(3.0, 2.0, (2, 4, 6, 5)).astype(np.float32),
        "coarse": rng.normal(-1.0, 0.5, (2, 2, 3, 7)).astype(np.float32),
    }
    statistics = {
        name: {"mean": x.mean(axis=(0, 1, 2)), "var": x.var(axis=(0, 1, 2))}
        for name, x in maps.items()
    }
    description = CellDescription(taps=("detail", "fine", "coarse"))
    features = Features(jnp.zeros((2, 1)), jax.tree.map(jnp.asarray, maps))
    described = description.apply({"batch_stats": statistics}, features)
    for name in maps:
        variance = statistics[name]["var"] + EPSILON
        centred = (maps[name] - statistics[name]["mean"]) / np.sqrt(variance)
        expected = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
        np.testing.assert_allclose(getattr(described, name), expected, atol=1e-5)


def test_statistics_are_those_of_the_sum_of_normalised_blocks(rng):
    """Each block of the taps' stages adds a batch-normalised map of its bias and scale."""
    config = {"backbone": "efficientnet_lite0", "head": "correlation"}
    network = build.build_network(config)
    shapes = jax.eval_shape(lambda: build.init_variables(network, jax.random.key(0)))
    params = jax.tree.map(lambda x: rng.normal(size=x.shape), shapes["params"]["backbone"])
    statistics = imagenet_statistics(network.head.description, params)

    def channels(blocks):
        outputs = [
            rng.normal(size=(20_000, len(params[b]["project"]["norm"]["bias"])))
            * params[b]["project"]["norm"]["scale"]
            + params[b]["project"]["norm"]["bias"]
            for b in blocks
        ]
        return np.sum(outputs, axis=0)

    stages = {
        "detail": ["block1", "block2"],
        "fine": ["block3", "block4"],
        "coarse": ["block8", "block9", "block10"],
    }
    for name, blocks in stages.items():
        samples = channels(blocks)
        spread = samples.std(axis=0)
        np.testing.assert_array_less(
            np.abs(statistics[name]["mean"] - samples.mean(axis=0)) / spread, 0.05
        )
        np.testing.assert_allclose(statistics[name]["var"], samples.var(axis=0), rtol=0.1)
    expected = jax.tree.map(lambda x: x.shape, shapes["batch_stats"]["head"]["description"])
    assert jax.tree.map(np.shape, statistics) == expected


def test_taps_have_strides_4_8_and_16():
    for backbone, taps in TAPS.items():
        network = build.build_network({"backbone": backbone, "head": "correlation"})
        images = jnp.zeros((1, 64, 96, 3))
        shapes = jax.eval_shape(
            lambda network=network, images=images: network.backbone.init_with_output(
                jax.random.key(0), images, False
            )[0]
        )
        sizes = [shapes.maps[tap].shape[1:3] for tap in taps]
        assert sizes == [(16, 24), (8, 12), (4, 6)]
