import jax
import ml_collections
import numpy as np
import pytest
import safetensors.numpy

from jaxreloc.models import build_network, init_variables
from jaxreloc.models.weights import saved_network
from jaxreloc.models.weights.variables import flatten
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
        loaded = saved_network.load_network(path)
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
        assert loaded.network == build_network(config.model)
        assert loaded.config == {"model": dict(config.model), "data": {"size": [48, 64]}}


def test_best_comes_before_last(tmp_path, config, variables):
    other = jax.tree.map(lambda x: x + 1, variables)
    saved_network.save_network(tmp_path / "last", config, other)
    saved_network.save_network(tmp_path / "best", config, variables)
    loaded = saved_network.load_network(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)


def test_another_architecture_lists_every_parameter(tmp_path, config, variables):
    saved_network.save_network(tmp_path, config, variables)
    with pytest.raises(UsageError) as error:
        saved_network.load_network(tmp_path, {"backbone": "resnet34", "head": "concat"})
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
        saved_network.load_network(tmp_path)


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
        saved_network.load_network(tmp_path)


def test_nothing_there_and_something_else(tmp_path):
    with pytest.raises(UsageError, match="no trained network"):
        saved_network.load_network(tmp_path)
    (tmp_path / saved_network.FILE_NAME).write_bytes(b"something else")
    with pytest.raises(UsageError, match="not a saved network"):
        saved_network.load_network(tmp_path)
