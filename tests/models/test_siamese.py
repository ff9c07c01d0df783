"""The siamese network with its smallest backbone, on small images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models import build, build_network, first_variables, inference, init_variables
from jaxreloc.models.backbones import resnet
from jaxreloc.models.weights.saved_network import LoadedNetwork

CONFIG = {"backbone": "resnet18", "head": "concat"}


@pytest.fixture(scope="module")
def network():
    return build_network(CONFIG)


@pytest.fixture(scope="module")
def variables(network):
    """Random parameters, and statistics that are not the initial ones."""
    rng = np.random.default_rng(0)
    variables = jax.device_get(init_variables(network, jax.random.key(0)))
    statistics = jax.tree.map(
        lambda x: (x + rng.uniform(-0.1, 0.1, x.shape)).astype(np.float32),
        variables["batch_stats"],
    )
    return {"params": variables["params"], "batch_stats": statistics}


@pytest.fixture
def small(monkeypatch, variables):
    """The config of a network with one block a stage, which compiles faster, and its variables."""
    blocks = functools.partial(resnet.ResNet, (1, 1, 1, 1))
    monkeypatch.setitem(build.BACKBONES, "small", blocks)
    config = CONFIG | {"backbone": "small"}
    network = build_network(config)
    shapes = jax.eval_shape(lambda: init_variables(network, jax.random.key(0)))

    def part(whole, shapes):
        if not isinstance(shapes, dict):
            return whole
        return {name: part(whole[name], inner) for name, inner in shapes.items()}

    return config, part(variables, shapes)


def assert_close(actual, expected):
    """To 1e-4 of the largest value, which must not be zero."""
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)


@pytest.fixture
def batch(rng):
    def images():
        return rng.integers(0, 256, (3, 32, 40, 3), np.uint8)

    intrinsics = np.broadcast_to(np.eye(3, dtype=np.float32), (3, 3, 3))
    return images(), images(), intrinsics, intrinsics


@pytest.fixture(scope="module")
def functions(network, variables):
    return inference.inference_functions(LoadedNetwork(network, variables, {}))


@pytest.fixture(scope="module")
def apply(network):
    return jax.jit(functools.partial(network.apply, train=False))


def test_inference_equals_the_network(functions, apply, variables, batch):
    """Images encoded one at a time with folded kernels, then related, give the whole's result."""
    db_images, query_images, *intrinsics = batch
    expected = apply(variables, *batch)
    db_features, query_features = functions.encode(db_images), functions.encode(query_images)
    pose = functions.relate(db_features, query_features, *intrinsics)
    assert_close(pose.t, expected.t)
    assert_close(pose.q_wxyz, expected.q_wxyz)
    assert pose.t.shape == (3, 3) and pose.q_wxyz.shape == (3, 4)


def test_descriptors_are_unit_and_of_one_image(functions, batch):
    descriptors = functions.descriptor(functions.encode(batch[0]))
    assert descriptors.shape == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=-1), 1, rtol=1e-5)
    alone = functions.descriptor(functions.encode(batch[0][1:2]))
    np.testing.assert_allclose(alone[0], descriptors[1], rtol=1e-3, atol=1e-5)


def test_both_images_go_through_one_branch(network, variables, batch):
    """The stacked pass equals a pass for each image; the head tells which one is the database's."""
    db_images, query_images, *intrinsics = batch

    @jax.jit
    def stacked_apart_and_swapped(variables, db_images, query_images):
        encode = functools.partial(network.apply, variables, method="encode")
        stacked = network.apply(variables, db_images, query_images, *intrinsics, train=False)
        features = encode(db_images), encode(query_images)
        relate = functools.partial(network.apply, variables, method="relate")
        return stacked, relate(*features, *intrinsics), relate(*features[::-1], *intrinsics)

    stacked, apart, swapped = stacked_apart_and_swapped(variables, db_images, query_images)
    assert_close(apart.t, stacked.t)
    assert np.abs(swapped.t - stacked.t).max() > 1e-2 * np.abs(stacked.t).max()


def test_training_updates_statistics_and_remat_changes_nothing(small, batch):
    config, variables = small

    def loss_gradient_and_statistics(network):
        def loss(params):
            given = {"params": params, "batch_stats": variables["batch_stats"]}
            pose, updates = network.apply(given, *batch, train=True, mutable="batch_stats")
            return jnp.sum(pose.t) + jnp.sum(pose.q_wxyz), updates["batch_stats"]

        gradient, statistics = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
        return gradient["backbone"]["conv1"]["kernel"], statistics

    gradient, statistics = loss_gradient_and_statistics(build_network(config))
    assert np.abs(gradient).max() > 0 and np.isfinite(gradient).all()
    changed = jax.tree.map(
        lambda new, old: bool((new != old).any()), statistics, variables["batch_stats"]
    )
    assert all(jax.tree.leaves(changed))

    remat = build_network(config | {"remat": True})
    remat_gradient, remat_statistics = loss_gradient_and_statistics(remat)
    # Batch statistics of three images amplify rounding, so single entries may differ by percents.
    assert np.linalg.norm(remat_gradient - gradient) < 2e-2 * np.linalg.norm(gradient)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        remat_statistics,
        statistics,
    )


def test_bfloat16_computes_with_float32_parameters(small, batch):
    config, variables = small
    network = build_network(config | {"dtype": "bfloat16"})
    shapes = jax.eval_shape(lambda: init_variables(network, jax.random.key(0)))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))

    def apply(network):
        run = functools.partial(network.apply, train=True, mutable="batch_stats")
        return jax.jit(run)(variables, *batch)

    pose, updates = apply(network)
    dtypes = {x.dtype.name for x in jax.tree.leaves((pose, updates))}
    assert dtypes == {"float32"}
    exact, exact_updates = apply(build_network(config))
    means = [
        x["batch_stats"]["backbone"]["conv1"]["norm"]["mean"] for x in (updates, exact_updates)
    ]
    np.testing.assert_allclose(*means, rtol=0.02, atol=0.02)
    assert np.abs(pose.t - exact.t).max() > 0


@pytest.mark.slow
def test_first_variables_take_the_backbones_weights():
    config = {"backbone": "efficientnet_lite0", "head": "concat", "pretrained": "default"}
    network = build_network(config)
    first = first_variables(config, network, jax.random.key(0))
    second = first_variables(config, network, jax.random.key(1))
    kernels = [x["params"]["backbone"]["stem"]["kernel"] for x in (first, second)]
    np.testing.assert_array_equal(*kernels)
    heads = [x["params"]["head"]["translation"]["kernel"] for x in (first, second)]
    assert np.abs(heads[0] - heads[1]).max() > 0


def test_folded_variables_replace_the_backbones(network, variables):
    folded = inference.fold(network, variables)
    assert set(folded["params"]) == {"head"}
    heads = folded["params"]["head"], variables["params"]["head"]
    jax.tree.map(np.testing.assert_array_equal, *heads)
    kernels = folded["folded"]["backbone"]
    assert kernels["layer4_1"]["conv2"]["kernel"].shape == (3, 3, 512, 512)
    assert kernels["conv1"]["bias"].shape == (64,)
