"""Programs come back whole from disk: the same answers, nothing traced, damage made good."""

import json
import pathlib
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxreloc.compilation import kept_programs
from jaxreloc.compilation.kept_programs import MOST_LOADED, Program, kept_json, loaded_ahead


@struct.dataclass
class Parts:
    total: jax.Array
    scaled: jax.Array
    kind: str = struct.field(pytree_node=False, default="plain")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.setattr(kept_programs, "_folder", None)
    kept_programs.keep_programs(tmp_path)
    return kept_programs._folder


def traced_program(traces: list):
    """As a new process would have it: no program is loaded yet."""

    def function(x, *, factor, power=1):
        traces.append(power)
        gram = x.T @ x + jnp.eye(x.shape[1])
        return Parts(jnp.linalg.cholesky(gram).sum(), factor * x**power, kind="made")

    return Program(function, "parts", of="a test", static=["power"])


def test_another_process_traces_nothing(folder, rng):
    x, factor = rng.normal(size=(5, 3)).astype(np.float32), np.float32(2.5)
    traces = []
    first = traced_program(traces)(x, factor=factor, power=2)
    assert traces == [2] and len(list(folder.iterdir())) == 1
    again = traced_program(traces)(x, factor=factor, power=2)
    assert traces == [2]
    assert again.kind == "made"
    np.testing.assert_array_equal(again.total, first.total)
    np.testing.assert_allclose(again.scaled, factor * x**2, rtol=1e-6)
    expected = np.linalg.cholesky(x.T @ x + np.eye(3)).sum()
    np.testing.assert_allclose(again.total, expected, rtol=1e-5)


def test_other_shapes_types_and_options_are_other_programs(folder, rng):
    traces = []
    program = traced_program(traces)
    for x in (np.ones((5, 3), np.float32), np.ones((6, 3), np.float32), np.ones((5, 3), np.int32)):
        for power in (1, 2):
            found = program(x, factor=np.float32(3), power=power)
            np.testing.assert_allclose(found.scaled, 3 * x**power)
    assert len(traces) == len(list(folder.iterdir())) == 6


def test_only_the_last_ones_stay_loaded(folder, rng):
    """What has left is taken from the folder again, and gives the same."""
    program = Program(lambda x: 2 * x, "doubled")
    arrays = [rng.normal(size=n).astype(np.float32) for n in range(1, MOST_LOADED + 4)]
    for _ in range(2):
        for x in arrays:
            np.testing.assert_array_equal(program(x), 2 * x)
            assert len(program._loaded) <= MOST_LOADED
    assert len(list(folder.rglob("doubled-*.program"))) == len(arrays)


def test_a_damaged_program_is_made_again(folder, rng):
    x, traces = np.ones((4, 2), np.float32), []
    traced_program(traces)(x, factor=np.float32(1))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[rng.integers(len(whole))] ^= 1
    for damaged in (b"", whole[: len(whole) // 2], b"no program", bytes(flipped)):
        path.write_bytes(damaged)
        found = traced_program(traces)(x, factor=np.float32(1))
        np.testing.assert_array_equal(found.scaled, x)
    assert len(traces) == 5


def test_within_another_function_it_is_traced_with_it(folder):
    program = traced_program([])
    outer = jax.jit(lambda x: program(x, factor=jnp.float32(2)).scaled)
    np.testing.assert_array_equal(outer(jnp.ones((3, 2))), 2 * np.ones((3, 2)))
    assert not folder.exists()


def test_where_nothing_is_kept_it_is_a_jitted_function(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_programs, "_folder", None)
    traces = []
    program = traced_program(traces)
    for _ in range(2):
        program(jnp.ones((3, 2)), factor=jnp.float32(2))
    assert traces == [1] and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept_programs, "_folder", tmp_path / "file" / "programs")
    found = traced_program([])(jnp.ones((3, 2)), factor=jnp.float32(2))
    np.testing.assert_array_equal(found.scaled, 2 * np.ones((3, 2)))
    assert kept_json("facts", "x", lambda: {"a": 1}) == {"a": 1}


def test_what_xla_cannot_write_serves_this_process(folder, monkeypatch):
    def serialize(_):
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: not serializable")

    monkeypatch.setattr(kept_programs.serialize_executable, "serialize", serialize)
    program = Program(lambda x: x + 1, "plus")
    for _ in range(2):
        np.testing.assert_array_equal(program(np.zeros(3, np.float32)), np.ones(3))
    assert not list(folder.rglob("plus-*"))


def test_a_job_loads_ahead_what_it_needed_the_last_time(folder, monkeypatch):
    x, traces, loading = np.ones((4, 2), np.float32), [], []
    load = kept_programs._load
    monkeypatch.setattr(kept_programs, "_cores", lambda: 2)

    def noted(path):
        loading.append((path.name, threading.current_thread() is threading.main_thread()))
        return load(path)

    monkeypatch.setattr(kept_programs, "_load", noted)

    def run(ahead=False):
        loading.clear()
        with loaded_ahead(["a job"]):
            while ahead and not loading:
                time.sleep(0.01)
            found = traced_program(traces)(x, factor=np.float32(3))
        np.testing.assert_array_equal(found.scaled, 3 * x)
        return [(name.partition("-")[0], at_need) for name, at_need in loading]

    assert run() == [("parts", True)]
    assert run(ahead=True) == [("parts", False)]
    assert traces == [1]
    (program,) = folder.glob("parts-*")
    program.unlink()
    assert run(ahead=True) == [("parts", False)] and traces == [1, 1]
    (job,) = folder.glob("job-*")
    for damaged in ("", "{", "3", "[1]", '{"parts": 1}'):
        job.write_text(damaged)
        assert run() == [("parts", True)]
    with pytest.raises(KeyError), loaded_ahead(["a job"]):
        raise KeyError
    assert json.loads(job.read_text()) == [program.name]
    monkeypatch.setattr(kept_programs, "_cores", lambda: 1)
    assert run() == [("parts", True)]


def test_facts_are_made_once(folder):
    made = []

    def make():
        made.append(1)
        return {"kernel": [[3, 3], "float32"]}

    for _ in range(2):
        assert kept_json("shapes", "a network", make) == {"kernel": [[3, 3], "float32"]}
    assert kept_json("shapes", "another", make) and len(made) == 2
    (folder / sorted(p.name for p in folder.iterdir())[0]).write_text("{")
    kept_json("shapes", "a network", make), kept_json("shapes", "another", make)
    assert len(made) == 3


def test_the_oldest_versions_go(tmp_path, monkeypatch):
    for i in range(6):
        (tmp_path / f"programs-{i}").mkdir()
    monkeypatch.setattr(kept_programs, "_folder", tmp_path / "programs-5")
    traced_program([])(np.ones((3, 2), np.float32), factor=np.float32(2))
    assert len(list(tmp_path.iterdir())) == kept_programs.KEPT_VERSIONS
    assert (tmp_path / "programs-5").exists()
