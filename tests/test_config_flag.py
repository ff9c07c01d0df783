"""The --config flag: overrides by field, and one line about what is wrong with them."""

import pytest

from configs import pairs
from jaxreloc import config_flag
from jaxreloc.usage import UsageError

FILE = pairs.__file__


def load(file_and_variant, *overrides):
    return config_flag.load_config(file_and_variant, overrides)


def test_a_file_a_variant_and_overrides_of_each_type():
    config = load(
        f"{FILE}:port",
        "--config.optimizer.learning_rate=0.5",
        "--config.optimizer.decay_at=(3,4)",
        "--config.optimizer.max_gradient_norm=2.5",
        "--config.data.data_dir=somewhere",
        "--config.batch_size=6",
    )
    assert config.num_steps == 125_000
    assert config.optimizer.learning_rate == 0.5
    assert config.optimizer.decay_at == (3, 4)
    assert config.optimizer.max_gradient_norm == 2.5
    assert config.data.data_dir == "somewhere"
    assert config.batch_size == 6
    assert config.is_locked


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--config.optimizer.lr=1"], r"config\.optimizer\.lr; known: b1, b2, .*learning_rate"),
        (["--config.speed=1"], r"config\.speed; known: .*batch_size.*optimizer"),
        (["--config.seed.x=1"], r"config\.seed\.x; config\.seed has no fields"),
        (["--config.optimizer.lr.x=1"], r"config\.optimizer\.lr; known: b1"),
        (["--config.nodata"], r"config\.nodata; known"),
    ],
)
def test_unknown_fields_list_the_known_ones(arguments, expected):
    with pytest.raises(UsageError, match=expected):
        load(FILE, *arguments)


def test_a_wrong_type_names_the_field():
    with pytest.raises(UsageError, match="config.optimizer.learning_rate=fast"):
        load(FILE, "--config.optimizer.learning_rate=fast")


def test_absent_files_and_unknown_variants():
    with pytest.raises(UsageError, match="none.py: no such file"):
        load("configs/none.py")
    with pytest.raises(UsageError, match="known: authors, demo, direction, learned, port, quick"):
        load(f"{FILE}:best")
