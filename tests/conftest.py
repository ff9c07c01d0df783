"""Shared fixtures. Random inputs are fresh each run; JAXRELOC_TEST_SEED repeats a run."""

import os
import pathlib
import re
import secrets
import zlib

import jax
import jaxtyping
import numpy as np
import pytest

from tests.annotation_checks import check

# JAX takes NumPy's arrays, too, where a function says `Array`.
jaxtyping.Array = jax.Array | np.ndarray
# What these say of arrays is checked in every call. It is read as they are first imported, which is
# after this. `Localizer` and the jobs check what users give them themselves.
CHECKED = ["geometry", "models", "data", "images"]
CHECKED += ["localization." + name for name in ("methods", "networks", "neighbors")]
CHECKED += ["localization." + name for name in ("all_matches", "patch_precision", "query_state")]
jaxtyping.install_import_hook(
    [f"jaxreloc.{name}" for name in CHECKED], f"{check.__module__}.{check.__name__}"
)

jax.config.update("jax_numpy_rank_promotion", "raise")

# In the environment, so that the processes among which the tests are shared out have the same.
SEED = int(os.environ.setdefault("JAXRELOC_TEST_SEED", str(secrets.randbits(32))))
SHARED_DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_report_header() -> str:
    return f"JAXRELOC_TEST_SEED={SEED}"


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run only the tests that draw random inputs, each with N seeds"
    parser.addoption("--seeds", type=int, metavar="N", help=text)


@pytest.hookimpl(trylast=True)  # the seed stands last in a test's name
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.config.option.seeds and "rng" in metafunc.fixturenames:
        seeds = [(SEED + i) % 2**32 for i in range(metafunc.config.option.seeds)]
        metafunc.parametrize("rng", seeds, indirect=True, ids="seed{}".format)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.seeds:
        draws = ["rng" in item.fixturenames for item in items]
        config.hook.pytest_deselected(items=[i for i, drawn in zip(items, draws) if not drawn])
        items[:] = [item for item, drawn in zip(items, draws) if drawn]


@pytest.fixture
def rng(request) -> np.random.Generator:
    """A generator of the run's seed and the test's name."""
    seed = getattr(request, "param", SEED)
    name = request.node.nodeid.removesuffix(f"[seed{seed}]")
    name = re.sub(rf"-seed{seed}]$", "]", name)
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@pytest.fixture
def shared_data() -> pathlib.Path:
    """The folder of real data for tests and measurements; its licences keep it out of here."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is absent: {SHARED_DATA}")
    return SHARED_DATA
