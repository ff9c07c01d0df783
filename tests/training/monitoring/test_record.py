"""What is kept about a run, and when a resumed one is another run."""

import functools
import json

import jax
import pytest

from configs import pairs
from jaxreloc.training.monitoring import record
from jaxreloc.usage import UsageError


def test_config_and_environment_are_written_whole(tmp_path):
    config = pairs.get_config("port")
    record.write_config(tmp_path, config)
    record.write_environment(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["optimizer"]["decay_at"] == list(config.optimizer.decay_at)
    assert written["data"]["data_dir"] is None
    assert written.keys() == set(config.keys())
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__
    assert environment["devices"] == [str(d) for d in jax.devices()]
    assert environment["code_version"] == record.code_version()


def test_a_workdir_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        record.write_environment(tmp_path / "file" / "workdir")


def test_code_version_follows_the_sources(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1")
    monkeypatch.setattr(record.jaxreloc, "__file__", str(package / "__init__.py"))
    before = record.code_version()
    assert before == record.code_version()
    (package / "more.py").write_text("")
    after = record.code_version()
    (package / "__init__.py").write_text("x = 2")
    assert len({before, after, record.code_version()}) == 3


def test_another_config_is_refused_field_by_field(tmp_path):
    config = pairs.get_config("port").unlock()
    saved = json.loads(json.dumps(record.plain(config)))
    record.check_same_config(saved, config, tmp_path)
    for name in record.FREE_FIELDS:
        *groups, field = name.split(".")
        inner = functools.reduce(lambda mapping, group: mapping[group], groups, saved)
        if field in inner:  # each config has those of its own data
            inner[field] = "another"
    record.check_same_config(saved, config, tmp_path)
    config.optimizer.learning_rate, config.loss.beta = 0.5, 3.0
    with pytest.raises(UsageError) as raised:
        record.check_same_config(saved, config, tmp_path)
    message = str(raised.value)
    assert "optimizer.learning_rate 0.001 there, 0.5 now" in message
    assert "loss.beta 1.0 there, 3.0 now" in message
    assert "num_steps" not in message and "\n" not in message


def test_a_field_that_only_one_of_them_has_is_another_config(tmp_path):
    config = pairs.get_config()
    saved = record.plain(config)
    del saved["loss"]["beta"]
    with pytest.raises(UsageError, match="loss.beta None there, 1.0 now"):
        record.check_same_config(saved, config, tmp_path)


def test_a_schedule_that_ends_with_the_steps_fixes_their_number(tmp_path):
    config = pairs.get_config("quick").unlock()
    saved = record.plain(config)
    config.num_steps += 1
    with pytest.raises(UsageError, match="num_steps"):
        record.check_same_config(saved, config, tmp_path)
