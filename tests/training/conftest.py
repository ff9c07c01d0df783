"""What the tests of whole runs share."""

import os

import jax
import pytest

from tests.training import tiny

# What is compiled once, here or in a worker, need not be compiled again.
CACHE_EVERYTHING = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    options = CACHE_EVERYTHING | {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("xla"))}
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
        os.environ.pop(name.upper())


@pytest.fixture
def tiny_run(monkeypatch) -> None:
    """Within the test, runs can be made of tiny.config()."""
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)
