import dataclasses

import jax
import ml_collections
import numpy as np
import pytest
import safetensors.numpy

from configs import pairs
from jaxreloc.models import build_network, first_variables, init_variables
from jaxreloc.models.build import variable_shapes
from jaxreloc.models.weights import saved_network
from jaxreloc.models.weights.backbone_weights import load_backbone
from jaxreloc.models.weights.variables import flatten, unflatten
from jaxreloc.usage import UsageError


@pytest.fixture(scope="module")
def config():
    model = {"backbone": "resnet18", "head": "concat"}
    return ml_collections.ConfigDict({"model": model, "data": {"size": (48, 64)}})


@pytest.fixture(scope="module")
def variables(config):
    network = build_network(config.model)
    return jax.device_get(init_variables(network, jax.random.key(3)))


@pytest.mark.parametrize("folder", ["best", "last", "."])
def test_round_trip_from_a_workdir(tmp_path, config, variables, folder):
    saved_network.save_network(tmp_path / folder, config, variables)
    for path in (tmp_path, tmp_path / folder, tmp_path / folder / saved_network.FILE_NAME):
        loaded = saved_network.read_network(path)
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
        assert loaded.network == build_network(config.model)
        assert loaded.config == {"model": dict(config.model), "data": {"size": [48, 64]}}


def test_best_comes_before_last(tmp_path, config, variables):
    other = jax.tree.map(lambda x: x + 1, variables)
    saved_network.save_network(tmp_path / "last", config, other)
    saved_network.save_network(tmp_path / "best", config, variables)
    loaded = saved_network.read_network(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)


def test_another_architecture_lists_every_parameter(tmp_path, config, variables):
    saved_network.save_network(tmp_path, config, variables)
    with pytest.raises(UsageError) as error:
        saved_network.read_network(tmp_path, {"backbone": "resnet34", "head": "concat"})
    message = str(error.value)
    # ResNet-34 has eight blocks more, of two convolutions with five arrays each.
    assert message.count(" is missing") == 8 * 2 * 5
    assert "params/backbone/layer3_5/conv2/kernel is missing" in message


def test_another_shape_is_named(tmp_path, config, variables):
    changed = jax.tree.map(lambda x: x, variables)
    changed["params"]["head"]["translation"]["bias"] = np.zeros(4, np.float32)
    saved_network.save_network(tmp_path, config, changed)
    expected = r"params/head/translation/bias is \[4\], the network's is \[3\]"
    with pytest.raises(UsageError, match=expected):
        saved_network.read_network(tmp_path)


def test_no_flipped_bit_goes_unnoticed(tmp_path, config, variables, rng):
    path = saved_network.save_network(tmp_path, config, variables)
    whole = path.read_bytes()
    for place in [*rng.integers(8, 500, 20), *rng.integers(0, len(whole), 5)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            changed_config, arrays = saved_network.read_file(path)
        except UsageError as error:
            assert str(path) in str(error)
            continue
        # It hit what no reader takes.
        assert changed_config == {"model": dict(config.model), "data": {"size": [48, 64]}}
        expected = flatten(variables)
        assert arrays.keys() == expected.keys()
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], expected[name])
    path.write_bytes(whole)
    saved_network.read_file(path)


def test_a_damaged_name_of_the_checksum_is_no_missing_checksum(tmp_path, config, variables):
    path = saved_network.save_network(tmp_path, config, variables)
    whole = path.read_bytes()
    assert whole.count(b'"sha256"') == 1
    path.write_bytes(whole.replace(b'"sha256"', b'"sha257"'))
    with pytest.raises(UsageError, match="its checksum is not the one that was written"):
        saved_network.read_file(path)


def test_a_file_of_an_earlier_version_has_no_checksum(tmp_path, config, variables):
    path = saved_network.save_network(tmp_path, config, variables)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = {"config": file.metadata()["config"]}
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    safetensors.numpy.save_file(arrays, path, metadata)
    assert saved_network.read_file(path)[1].keys() == arrays.keys()


def test_parameters_that_are_no_numbers_are_named(tmp_path, config, variables):
    changed = jax.tree.map(lambda x: x, variables)
    changed["params"]["head"]["translation"]["bias"] = np.float32([0, np.nan, 0])
    saved_network.save_network(tmp_path, config, changed)
    with pytest.raises(UsageError, match="translation/bias has NaN or infinite values"):
        saved_network.read_network(tmp_path)


def test_nothing_there_and_something_else(tmp_path):
    with pytest.raises(UsageError, match="no trained network"):
        saved_network.read_network(tmp_path)
    (tmp_path / saved_network.FILE_NAME).write_bytes(b"something else")
    with pytest.raises(UsageError, match="not a saved network"):
        saved_network.read_network(tmp_path)


@pytest.fixture(scope="module")
def headed():
    """A small head on EfficientNet-lite0 as its package has it."""
    model = {
        "backbone": "efficientnet_lite0",
        "head": "concat",
        "pretrained": "default",
        "grid": (2, 2),
    }
    network, rng = build_network(model), np.random.default_rng(5)
    shapes = variable_shapes(network)
    named = {name: rng.random(x.shape, np.float32) for name, x in shapes.items()}
    random = unflatten(named)
    for collection, tree in load_backbone(
        model["backbone"],
        model["pretrained"],
        {name: tree["backbone"] for name, tree in random.items()},
    ).items():
        random[collection]["backbone"] = tree
    return saved_network.LoadedNetwork(network, random, {"model": model})


def test_a_head_alone_is_small_and_read_with_its_backbone(tmp_path, headed):
    path = saved_network.save_head(tmp_path, headed)
    assert path.stat().st_size < 2e6
    read = flatten(saved_network.read_network(tmp_path).variables)
    for name, array in flatten(headed.variables).items():
        expected = np.float16(array) if "/head/" in name else array
        assert read[name].dtype == np.float32, name
        np.testing.assert_array_equal(read[name], expected, err_msg=name)


def test_a_head_alone_needs_its_backbone_untrained(tmp_path, headed):
    named = flatten(headed.variables)
    named["batch_stats/backbone/stem/norm/mean"] = np.ones(32, np.float32)
    trained = unflatten(named)
    with pytest.raises(UsageError, match="keep the whole network"):
        saved_network.save_head(tmp_path, dataclasses.replace(headed, variables=trained))
    no_package = {"model": headed.config["model"] | {"pretrained": None}}
    with pytest.raises(UsageError, match="keep the whole network"):
        saved_network.save_head(tmp_path, dataclasses.replace(headed, config=no_package))


def test_training_starts_from_a_saved_network(tmp_path, headed):
    saved_network.save_head(tmp_path, headed)
    model = headed.config["model"] | {"start_from": str(tmp_path)}
    first = first_variables(model, headed.network, jax.random.key(8))
    read = saved_network.read_network(tmp_path).variables
    jax.tree.map(np.testing.assert_array_equal, first, read)


@pytest.mark.parametrize(
    "changes, messages",
    [
        ({"grid": (3, 4)}, [r"params/head/hidden/kernel is \[256, 1024\], .* \[768, 1024\]"]),
        (
            {"grid": None},
            [r"hidden/kernel is \[256, 1024\]", "params/head/cells/kernel is not in the network"],
        ),
        (
            {"backbone": "resnet18"},
            ["params/backbone/conv1/kernel is missing", "backbone/stem/kernel is not in the netw"],
        ),
        ({"start_from": "nowhere"}, ["nowhere: no trained network .network.safetensors. here"]),
    ],
)
def test_what_training_cannot_start_from(tmp_path, headed, changes, messages):
    saved_network.save_head(tmp_path, headed)
    model = headed.config["model"] | {"start_from": str(tmp_path)} | changes
    network = build_network(model)
    for message in messages:
        with pytest.raises(UsageError, match=message):
            first_variables(model, network, jax.random.key(8))


def test_the_network_that_the_demo_shows_fits_its_config():
    path = pairs.WEIGHTS / "seven_rooms" / saved_network.FILE_NAME
    assert path.stat().st_size < 10e6
    loaded = saved_network.read_network(path, pairs.get_config("demo").model)
    assert all(np.isfinite(x).all() for x in flatten(loaded.variables).values())
    data = loaded.config["data"]
    assert data["dataset"] == "seven_rooms" and data["data_dir"] is None
