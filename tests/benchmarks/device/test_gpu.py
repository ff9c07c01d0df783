"""The whole script at tiny sizes on the CPU, without TensorFlow, Grain and TFDS."""

import importlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from benchmarks.device.wheels import unpack_wheels
from tests.scripts import ROOT

# As on a machine that lacks them: they are not found, rather than found and refused.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

ABSENT = {"tensorflow", "tensorflow_datasets", "grain", "array_record"}


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return None
        return PathFinder.find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


def rehearse(folder, *stages, devices=1):
    """Runs stages into `folder`; what each of them found."""
    (folder / "bare").mkdir(exist_ok=True)
    (folder / "bare" / "sitecustomize.py").write_text(WITHOUT)
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"PYTHONPATH": f"{folder / 'bare'}:{ROOT}", "XLA_FLAGS": flags}
    out = folder / "out"
    command = ["-m", "benchmarks.gpu", f"--out={out}", "--size=tiny", f"--only={','.join(stages)}"]
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    table = (out / "table.txt").read_text()
    assert all(f"\n{stage}, " in table for stage in stages)
    return [json.loads((out / f"{stage}.json").read_text()) for stage in stages]


@pytest.mark.slow
def test_training_resumes_in_a_call_and_in_the_next(tmp_path):
    """Half of the steps, then the others from the checkpoint; a second call finds all done."""
    ((trained,),) = rehearse(tmp_path, "training")
    assert trained["checkpoints_before"] == [] and trained["checkpoints"] == [2, 4]
    assert [found["step"] for found in trained["validations"]][0] == 2
    ((again,),) = rehearse(tmp_path, "training")
    assert again["checkpoints_before"] == again["checkpoints"] == [2, 4]
    assert again["validations"] == []


@pytest.mark.slow
def test_two_devices_compute_what_one_does(tmp_path):
    ((one, two),) = rehearse(tmp_path, "devices", devices=2)
    assert (one["devices"], two["devices"]) == (1, 2)
    assert two["difference"] < 1e-3 and two["pairs_per_second"] > 0


@pytest.mark.slow
def test_every_other_stage(tmp_path):
    agreement, throughput, steps = rehearse(tmp_path, "agreement", "throughput", "steps")
    assert len(agreement) == 11 and all(row["holds"] for row in agreement)
    measured = [row for row in throughput if "note" not in row]
    assert len(measured) == len(throughput) >= 10
    assert all(row["per_second"] > 0 for row in measured)
    assert steps[0]["backbone"] == "matrix product"
    assert steps[1]["images_per_second"] > 0 and 0 < steps[1]["share_of_peak"]


def test_wheels_are_importable_here_and_in_processes_started_here(tmp_path, monkeypatch):
    name = "carried_along"
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "ANSWER = 42\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    unpack_wheels(tmp_path / "wheels", tmp_path / "site")
    assert importlib.import_module(name).ANSWER == 42
    code = f"import {name}; print({name}.ANSWER)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "42\n"
    assert str(ROOT) in os.environ["PYTHONPATH"].split(os.pathsep)


def test_an_unknown_stage_is_refused_with_the_known_ones(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", f"--out={tmp_path}", "--only=speed"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: unknown stage 'speed'") and "throughput" in last
