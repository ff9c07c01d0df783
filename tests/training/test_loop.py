"""Whole runs: what they leave, and that an interrupted one ends as if it had not been."""

import json
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from flax import jax_utils, traverse_util

from jaxreloc.data import datasets
from jaxreloc.models.weights import saved_network
from jaxreloc.training import loop, step
from jaxreloc.training.inputs import pair_inputs
from jaxreloc.training.loop import train_and_evaluate
from jaxreloc.training.losses.pose_losses import PairLoss
from jaxreloc.training.monitoring import record
from jaxreloc.training.monitoring.validation import validate
from jaxreloc.training.state import TrainState
from jaxreloc.training.tasks.pose_task import PoseTask
from jaxreloc.usage import UsageError
from tests.training import tiny
from tests.training.monitoring.test_summaries import read_events

ROOT = pathlib.Path(__file__).parents[2]


def config(**overrides):
    """tiny.config() with overrides by dotted names (`optimizer__b1`), locked."""
    changed = tiny.config()
    changed.update_from_flattened_dict({k.replace("__", "."): v for k, v in overrides.items()})
    return changed.lock()


def worker(workdir, **options):
    """Starts a run of its own process; see worker.py."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.worker", str(workdir), json.dumps(options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, expected_status=0):
    """The output of a worker that must end with this status."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == expected_status, output
    return output


def network(workdir, folder="last"):
    return safetensors.numpy.load_file(workdir / folder / saved_network.FILE_NAME)


def assert_same_network(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def checkpoint_steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The workdir of a run of 12 steps without interruption, and what it printed and returned."""
    workdir = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny.install(monkeypatch.setattr, monkeypatch.setitem)
        best = train_and_evaluate(config(num_steps=12), workdir)
    return workdir, best


def test_a_run_leaves_networks_checkpoints_curves_and_its_record(straight):
    workdir, best = straight
    assert checkpoint_steps(workdir) == [8, 10, 12]
    assert json.loads((workdir / "config.json").read_text())["num_steps"] == 12
    assert (workdir / "environment.json").exists()
    values = {}
    for event in read_events(workdir / "tensorboard"):
        for value in event.summary.value:
            values.setdefault(value.tag, {})[event.step] = value
    for name in (
        "loss",
        "loss/translation",
        "loss/rotation",
        "gradient_norm",
        "learning_rate",
        "pairs_per_second",
        "data_wait_share",
    ):
        assert list(values[f"train/{name}"]) == [1, 2, 4, 6, 8, 10, 12], name
    for name in ("loss", "position_error_m", "rotation_error_deg", "epipolar_lines"):
        assert list(values[f"validation/{name}"]) == [4, 8, 12], name
    errors = {k: v.simple_value for k, v in values["validation/position_error_m"].items()}
    assert best["step"] == min(errors, key=errors.get)
    np.testing.assert_allclose(best["position_error_m"], errors[best["step"]], rtol=1e-6)


def test_the_best_network_has_the_errors_that_made_it_the_best(straight, tiny_run):
    workdir, best = straight
    loaded = saved_network.read_network(workdir)
    assert loaded.config["data"]["crop"] == tiny.IMAGE_SIZE
    params = {"network": loaded.variables["params"], "loss": {}}
    state = TrainState(np.int32(0), params, loaded.variables["batch_stats"], ())
    _, pairs = pair_inputs.load_pairs(config())
    task = PoseTask(tiny.network(step.AXIS), PairLoss())
    state = jax_utils.replicate(state, axis_name=step.AXIS)
    again = validate(task, step.make_validation_step(task), state, pairs).figures()
    assert again == pytest.approx({k: v for k, v in best.items() if k != "step"}, rel=1e-5)


def test_kill_in_a_save_then_sigterm_then_the_rest_is_the_straight_run(
    straight, tmp_path, tiny_run
):
    killed = worker(tmp_path, overrides={"num_steps": 12}, kill_in_save=4)
    finish(killed, -signal.SIGKILL)
    assert checkpoint_steps(tmp_path) == [2]
    assert list((tmp_path / "checkpoints").glob("4.*tmp*")), "it was to die in the middle of a save"

    stopped = worker(tmp_path, overrides={"num_steps": 12}, slow_steps=0.5)
    for line in stopped.stdout:
        if line.startswith("step 4/12"):
            stopped.send_signal(signal.SIGTERM)
            break
    output = finish(stopped)
    last_line = output.strip().splitlines()[-1]
    assert last_line.startswith("stopped by SIGTERM at step ")
    assert last_line.endswith("run the same command again to resume")
    number = int(last_line.split()[5].rstrip(","))
    assert 4 <= number < 12 and checkpoint_steps(tmp_path)[-1] == number

    train_and_evaluate(config(num_steps=12), tmp_path)
    assert_same_network(network(tmp_path), network(straight[0]))
    assert_same_network(network(tmp_path, "best"), network(straight[0], "best"))


def saved_state(workdir, number):
    """Everything in a checkpoint's state, by name."""
    path = workdir / "checkpoints" / str(number) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        return traverse_util.flatten_dict(checkpointer.restore(path), sep="/")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The state after 3 steps on one device; with b1 = 0 Adam's first moment is the gradient."""
    overrides = {"num_steps": 3, "optimizer.b1": 0.0, "optimizer.eps": 1e-3}
    workdir = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny.install(monkeypatch.setattr, monkeypatch.setitem)
        best = train_and_evaluate(config(**overrides), workdir)
    return overrides, saved_state(workdir, 3), best


def assert_equals_one_device(one_device, workdir, output):
    _, state, best = one_device
    found = saved_state(workdir, 3)
    assert found.keys() == state.keys() and any("/mu/" in name for name in found)
    for name, expected in state.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)
    assert f"{best['position_error_m']:.3f} m" in output


def test_four_devices_make_the_steps_of_one(one_device, tmp_path):
    output = finish(worker(tmp_path, overrides=one_device[0], devices=4))
    assert "on 4 cpu device(s)" in output
    assert_equals_one_device(one_device, tmp_path, output)


def test_two_processes_of_two_devices_make_the_steps_of_one(one_device, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    options = {"overrides": one_device[0], "devices": 2}
    options |= {"coordinator": coordinator, "num_processes": 2}
    started = [worker(tmp_path, **options, process_id=k) for k in (0, 1)]
    first, second = (finish(process) for process in started)
    assert "on 4 cpu device(s)" in first
    assert all(line.startswith("[Gloo]") for line in second.splitlines()), "one process reports"
    assert_equals_one_device(one_device, tmp_path, first)


def test_a_finished_run_stays_as_it_is(straight, tmp_path, tiny_run, capsys):
    workdir, best = straight
    before = network(workdir)
    assert train_and_evaluate(config(num_steps=12), workdir) == best
    assert "step 12 of 12 is done" in capsys.readouterr().out
    assert_same_network(network(workdir), before)


def test_a_run_goes_on_with_more_steps_but_not_with_another_config(tmp_path, tiny_run):
    train_and_evaluate(config(num_steps=2), tmp_path)
    before = (tmp_path / "config.json").read_text()
    for change, message in {
        "optimizer__learning_rate": "optimizer.learning_rate 0.001 there, 0.5 now",
        "optimizer__max_gradient_norm": "optimizer.max_gradient_norm None there, 0.5 now",
    }.items():
        with pytest.raises(UsageError, match=message):
            train_and_evaluate(config(**{change: 0.5}), tmp_path)
    assert (tmp_path / "config.json").read_text() == before and checkpoint_steps(tmp_path) == [2]
    train_and_evaluate(config(num_steps=4), tmp_path)
    assert checkpoint_steps(tmp_path)[-1] == 4


def test_a_run_cut_short_by_fewer_steps_has_a_best_network(tmp_path, tiny_run, stop_at):
    """As when a stopped run is resumed with fewer steps than it has made."""
    with stop_at(4):
        train_and_evaluate(config(validate_every=100), tmp_path)
    best = train_and_evaluate(config(num_steps=2, validate_every=100), tmp_path)
    assert best["step"] >= 4 and network(tmp_path, "best")


def test_a_full_disk_costs_networks_and_curves_and_not_the_run(tmp_path, tiny_run, capsys):
    train_and_evaluate(config(num_steps=2), tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))  # as on a full disk
    try:
        with pytest.raises(UsageError, match="step 6 is not saved; make room"):
            train_and_evaluate(config(num_steps=6), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    output = capsys.readouterr().out
    assert "the network of step 4 was NOT saved" in output and "no more curves" in output
    whole = checkpoint_steps(tmp_path)
    assert whole == [2]
    train_and_evaluate(config(num_steps=6), tmp_path)
    assert f"resuming from {tmp_path / 'checkpoints' / '2'}" in capsys.readouterr().out
    assert checkpoint_steps(tmp_path)[-1] == 6


def test_a_run_does_not_go_on_with_other_data(tmp_path, tiny_run, monkeypatch):
    train_and_evaluate(config(num_steps=2), tmp_path)

    def other_frames(dataset, split, **options):
        return [tiny.frames(np.random.default_rng(9), scene=split)]

    monkeypatch.setattr(datasets, "load_scenes", other_frames)
    with pytest.raises(UsageError, match="other data"):
        train_and_evaluate(config(num_steps=4), tmp_path)


def test_changed_code_is_noted(tmp_path, tiny_run, monkeypatch, capsys):
    train_and_evaluate(config(num_steps=2), tmp_path)
    monkeypatch.setattr(record, "code_version", lambda: "0123456789ab")
    train_and_evaluate(config(num_steps=3), tmp_path)
    assert "note: the code has changed since" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, tiny_run, monkeypatch):
    labels = loop.shard
    batches = []

    def poisoned(batch):
        batches.append(batch)
        if len(batches) == 5:
            batch["db_from_query"][3, 4] = np.nan
        return labels(batch)

    monkeypatch.setattr(loop, "shard", poisoned)
    with pytest.raises(UsageError) as raised:
        train_and_evaluate(config(num_steps=12, validate_every=12), tmp_path)
    message = str(raised.value)
    assert message.startswith("step 5: loss nan")
    assert str(tmp_path / "checkpoints" / "4") in message
    names = (tmp_path / "non_finite_batch.txt").read_text().split()
    assert len(names) == 2 * 8 and all(name.startswith("train-") for name in names)
    assert checkpoint_steps(tmp_path)[-1] == 4


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"accumulation": 3}, "batch_size 8 .* accumulation 3"),
        ({"model__backbone": "resnet"}, "backbone 'resnet'; known: .*resnet34"),
        ({"model__head": "none"}, "head 'none'; known: concat"),
        ({"loss__weighting": "equal"}, "known: fixed, learned"),
        ({"data__translation_frame": "room"}, "known: camera, world"),
        ({"data__crop": 999}, "999"),
    ],
)
def test_mistakes_in_the_config(overrides, message, tmp_path, tiny_run):
    with pytest.raises(UsageError, match=message):
        train_and_evaluate(config(**overrides), tmp_path)


@pytest.mark.slow
def test_100_steps_are_50_and_a_kill_and_50(tmp_path, tiny_run, rng):
    """The kills come from outside, at no moment in particular, several times over."""
    options = {"num_steps": 100, "checkpoint_every": 1, "validate_every": 50}
    train_and_evaluate(config(**options), tmp_path / "straight")
    for trial in range(3):
        workdir = tmp_path / str(trial)
        process = worker(workdir, overrides=options, slow_steps=0.05)
        for line in process.stdout:
            if "validation at step 50" in line:
                break
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        finish(process, -signal.SIGKILL)
        assert 40 <= checkpoint_steps(workdir)[-1] < 100
        train_and_evaluate(config(**options), workdir)
        assert_same_network(network(workdir), network(tmp_path / "straight"))


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_one_step(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    options = {"overrides": {"num_steps": 100}, "devices": 1, "slow_steps": 0.2}
    options |= {"coordinator": coordinator, "num_processes": 2}
    first, second = (worker(tmp_path, **options, process_id=k) for k in (0, 1))
    for line in first.stdout:
        if line.startswith("step 1/100"):
            second.send_signal(signal.SIGTERM)
            break
    output = finish(first)
    finish(second)
    assert "stopped by another process at step" in output
    number = int(output.split("at step ")[-1].split(",")[0])
    assert 1 <= number < 20 and checkpoint_steps(tmp_path)[-1] == number
