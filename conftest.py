"""What the tests of every folder share: where temporary folders and compiled functions go."""

import os
import tempfile

# Most of the suite's time is XLA's. So it compiles twice as fast, and computes the same; before JAX
# is imported, and in the environment of the processes that tests start. `XLA_FLAGS=` in front of
# a command runs tests with the programs that users get, as `make test-slow` does.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

# What is compiled once, here or in a process that a test starts, need not be compiled again.
KEEP_COMPILED = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory):
    """What libraries and processes leave behind is removed with pytest's own folders."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """A folder of this run, so that no run depends on what an earlier one compiled.

    The processes among which the tests are shared out have it in common.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "xla"
    options = KEEP_COMPILED | {"jax_compilation_cache_dir": str(folder)}
    before = {name: getattr(jax.config, name) for name in options}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        reset_cache()  # what modules compile as they are imported settles that there is none
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()
