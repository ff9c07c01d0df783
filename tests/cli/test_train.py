"""`jaxreloc train` and run_train.py as a user runs them: photographs, mistakes."""

import json

import pytest

from jaxreloc.models.weights import saved_network
from tests.photographs import write_photographs
from tests.scripts import assert_fails, call_command, run_script

QUICK = "--config=configs/pairs.py:quick"
SEVEN = "--config=configs/pairs.py:seven"


@pytest.mark.slow
def test_own_photographs_end_to_end(tmp_path, rng):
    write_photographs(tmp_path / "photographs", rng)
    result = run_script(
        "run_train.py",
        QUICK,
        f"--workdir={tmp_path / 'workdir'}",
        "--config.data.dataset=posed_images",
        f"--config.data.data_path={tmp_path / 'photographs'}",
        "--config.data.train_split=database",
        "--config.data.validation_split=database",
        "--config.data.short_side=40",
        "--config.data.crop=32",
        "--config.num_steps=2",
        "--config.batch_size=4",
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("step 2 of 2 is done")
    assert [line.split(":")[0] for line in lines if line.startswith("step")][:2] == [
        "step 1/2",
        "step 2/2",
    ]
    loaded = saved_network.read_network(tmp_path / "workdir")
    assert loaded.config["data"]["crop"] == 32
    written = json.loads((tmp_path / "workdir" / "config.json").read_text())
    assert written["batch_size"] == 4


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            [QUICK, "--workdir=w", "--config.optimizer.lr=1"],
            ["config.optimizer.lr", "learning_rate"],
        ),
        (["--config=README.md", "--workdir=w"], ["--config=README.md: line ", ": SyntaxError: "]),
        ([QUICK, "--workdir=w", "--process_id=1"], ["--coordinator", "all three"]),
        ([QUICK, "--workdir=README.md/w"], ["README.md/w", "cannot be written"]),
        (
            [QUICK, "--workdir={w}", "--config.data.dataset=eight_rooms"],
            ["unknown dataset 'eight_rooms'", "seven_rooms", "seven_scenes", "synthetic_rooms"],
        ),
        (
            [SEVEN, "--workdir={w}", "--config.data.scenes=('chess_room','attic')"],
            ["'attic'", "chess_room", "stairs_room"],
        ),
        ([QUICK, "--workdir={w}", "--config.task=head"], ["config.task=head needs data.views"]),
        (
            [SEVEN, "--workdir={w}", "--config.model.start_from={w}"],
            ["no trained network", "best or last"],
        ),
        (
            [SEVEN, "--workdir={w}", "--config.model.start_from=configs/weights/seven_rooms"]
            + ["--config.model.grid=(2,2)"],
            ["configs/weights/seven_rooms", "params/head/hidden/kernel is [", "network's is [256,"],
        ),
    ],
)
def test_mistakes_on_the_command_line(arguments, words, tmp_path):
    arguments = [x.format(w=tmp_path) for x in arguments]
    assert_fails(call_command("train", *arguments), *words)


def test_a_mistake_ends_the_process():
    assert_fails(run_script("run_train.py", QUICK), "--workdir is missing")
