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


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.txt", "two words\n", "line 1: SyntaxError: invalid syntax"),
        ("a.py", "x = 1\n", "AttributeError: module 'config_file' has no attribute 'get_config'"),
        ("a.py", "\nx = 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("a.py", "def get_config():\n    open('/none')\n", "line 2: FileNotFoundError: .*'/none'"),
        ("a.py", "def get_config():\n    int('x')\n", "line 2: ValueError: invalid literal"),
        ("a.py", "get_config = dict\n", "TypeError: get_config gives dict, no ml_collections"),
        ("a.py", "raise SystemExit(3)\n", "line 1: SystemExit: 3"),
        ("a.py", "import nowhere\n", "line 1: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_what_a_file_raises_is_one_line(name, text, expected, tmp_path):
    (tmp_path / name).write_text(text)
    remedy = "; give a Python file with a get_config like those in configs/$"
    with pytest.raises(UsageError, match=f"^--config={tmp_path}/{name}: {expected}.*{remedy}"):
        load(f"{tmp_path}/{name}")


def test_a_variant_that_the_file_does_not_take(tmp_path):
    (tmp_path / "a.py").write_text("def get_config():\n    return {}\n")
    with pytest.raises(UsageError, match="a.py:quick: TypeError: get_config.. takes 0 positional"):
        load(f"{tmp_path}/a.py:quick")
