"""The --config flag: overrides by field, and one line about what is wrong with them."""

import sys

import pytest
from absl import flags

from configs import pairs
from jaxreloc import config_flag
from jaxreloc.usage import UsageError

FILE = pairs.__file__


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line with a fresh --config flag."""

    def parse(*args):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        monkeypatch.setattr(sys, "argv", ["run_train.py", *args])
        config_flag.define_config(flag_values=values)
        values(sys.argv)
        return values["config"].value

    return parse


def test_a_file_a_variant_and_overrides_of_each_type(parse):
    config = parse(
        f"--config={FILE}:port",
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
def test_unknown_fields_list_the_known_ones(arguments, expected, parse):
    with pytest.raises(UsageError, match=expected):
        parse(f"--config={FILE}", *arguments)


def test_a_wrong_type_names_the_field(parse):
    with pytest.raises(flags.Error, match="config.optimizer.learning_rate=fast"):
        parse(f"--config={FILE}", "--config.optimizer.learning_rate=fast")


def test_absent_files_and_unknown_variants(parse):
    with pytest.raises(UsageError, match="none.py: no such file"):
        parse("--config=configs/none.py")
    with pytest.raises(UsageError, match="known: authors, direction, learned, port, quick"):
        parse(f"--config={FILE}:best")
