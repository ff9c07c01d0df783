"""Checkpoints come back bit for bit; damage, full disks, dead writers cost at most the newest."""

import os
import resource

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreloc.training.checkpoints import Checkpoints
from jaxreloc.training.state import TrainState, from_state_dict
from jaxreloc.usage import UsageError

# Threads of Orbax outlive the event loop of a read or a write that failed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def random_state(rng, step=0):
    params = {"network": {"kernel": rng.normal(size=(300, 70)).astype(np.float32)}, "loss": {}}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    return TrainState(
        step=jnp.int32(step),
        params=params,
        batch_stats={"mean": rng.normal(size=7).astype(np.float32)},
        opt_state=optimizer.init(params),
    )


def at_step(state, step):
    kernel = state.params["network"]["kernel"] + np.float32(step)
    return state.replace(step=jnp.int32(step), params={"network": {"kernel": kernel}, "loss": {}})


@pytest.fixture
def saved(tmp_path, rng):
    """A folder with checkpoints 5, 10 and 15, and the state they are of."""
    state, lines = random_state(rng), []
    checkpoints = Checkpoints(tmp_path, lines.append)
    for step in (5, 10, 15):
        checkpoints.save(at_step(state, step), {"note": [step, None, "x"]})
    assert checkpoints.wait() and not lines
    checkpoints.close()
    return tmp_path, state


def restore(folder, template):
    """The state (or None) and the record of the newest checkpoint, and what was said."""
    lines = []
    checkpoints = Checkpoints(folder, lines.append)
    try:
        restored = checkpoints.restore()
        if restored is None:
            return None, None, lines
        return from_state_dict(template, restored.state), restored.record, lines
    finally:
        checkpoints.close()


def assert_same(state, expected):
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def test_the_newest_comes_back_bit_for_bit(saved, rng):
    folder, state = saved
    restored, record, lines = restore(folder, random_state(rng))
    assert_same(restored, at_step(state, 15))
    assert record == {"note": [15, None, "x"]}
    assert lines == []


def test_an_empty_folder_has_none(tmp_path, rng):
    assert restore(tmp_path / "new", random_state(rng)) == (None, None, [])


def flip_a_bit(checkpoint, rng):
    """In the middle of the largest file: the parameters."""
    path = max((checkpoint / "state").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 + int(rng.integers(100))] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)


def cut_short(checkpoint, rng):
    for path in (checkpoint / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_record(checkpoint, rng):
    (checkpoint / "record" / "metadata").write_text("{")


def lose_state(checkpoint, rng):
    (checkpoint / "state" / "manifest.ocdbt").unlink()


def change_record(checkpoint, rng):
    path = checkpoint / "record" / "metadata"
    path.write_text(path.read_text().replace('"x"', '"y"'))


def put_a_pipe(checkpoint, rng):
    path = checkpoint / "_CHECKPOINT_METADATA"
    path.unlink()
    os.mkfifo(path)


def spoil_times(checkpoint, rng):
    (checkpoint / "_CHECKPOINT_METADATA").write_text('{"commit_timestamp_nsecs": -Infinity}')


@pytest.mark.parametrize(
    "damage",
    [
        *(flip_a_bit, cut_short, spoil_record, lose_state),
        *(change_record, put_a_pipe, spoil_times),
    ],
)
def test_a_damaged_newest_falls_back_to_the_one_before(damage, saved, rng):
    folder, state = saved
    damage(folder / "15", rng)
    restored, _, lines = restore(folder, random_state(rng))
    assert_same(restored, at_step(state, 10))
    assert len(lines) == 1 and f"{folder / '15'} is damaged" in lines[0] and "\n" not in lines[0]
    # Out of the way: the next save of step 15 is not taken for an old one.
    assert not (folder / "15").exists() and (folder / "15.corrupt").exists()


def test_no_readable_checkpoint_is_an_error_not_a_new_start(saved, rng):
    folder, _ = saved
    for step in (5, 10, 15):
        spoil_record(folder / str(step), rng)
    for _ in range(2):  # the second time, those set aside are all that is left
        with pytest.raises(UsageError, match="no checkpoint can be read"):
            restore(folder, random_state(rng))


def test_a_state_of_other_shapes_is_refused(saved, rng):
    folder, state = saved
    other = state.replace(batch_stats={"mean": np.zeros(8, np.float32)})
    with pytest.raises(ValueError, match=r"shape \(7,\) where \(8,\)"):
        restore(folder, other)


def test_only_the_last_few_are_kept(saved, rng):
    folder, state = saved
    checkpoints = Checkpoints(folder, print)
    checkpoints.save(at_step(state, 20), {})
    checkpoints.close()
    assert sorted(int(p.name) for p in folder.iterdir()) == [10, 15, 20]


def test_what_a_dead_writer_left_is_ignored(saved, rng):
    folder, state = saved
    (folder / "20.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    restored, _, _ = restore(folder, random_state(rng))
    assert_same(restored, at_step(state, 15))


def test_a_write_that_fails_is_said_and_leaves_the_last_checkpoint(saved, rng):
    folder, state = saved
    lines = []
    checkpoints = Checkpoints(folder, lines.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # as on a full disk
    try:
        checkpoints.save(at_step(state, 20), {})
        assert not checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(lines) == 1 and "step 20 was NOT saved" in lines[0] and "\n" not in lines[0]
    assert "File too large" in lines[0] and f"the last complete one: {folder / '15'}" in lines[0]
    assert not list(folder.glob("*tmp*")), "what was written keeps the disk full"
    checkpoints.save(at_step(state, 25), {})
    assert checkpoints.wait() and checkpoints.newest() == folder / "25"
    checkpoints.close()
    assert_same(restore(folder, random_state(rng))[0], at_step(state, 25))


def test_two_runs_do_not_write_in_one_folder(saved, rng):
    folder, state = saved
    first = Checkpoints(folder, print)
    with pytest.raises(UsageError, match="another program is training there; wait for it"):
        Checkpoints(folder, print)
    first.close()
    Checkpoints(folder, print).close()
