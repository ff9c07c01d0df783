"""Ctrl-C in a process of its own, at every kind of moment: one line, status 130, no litter."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from jaxreloc.interrupts import EXIT_STATUS

ROOT = pathlib.Path(__file__).parents[1]
HEAD = """
import pathlib, sys, time
from jaxreloc import files, interrupts
from jaxreloc.new_folder import new_folder
from jaxreloc.usage import run_script
OUT = pathlib.Path({out!r})
def ready():
    print("ready", flush=True)
"""
# What is going on as the interrupt comes.
MOMENTS = {
    "waiting": "ready(); time.sleep(60)",
    "computing": "ready()\nwhile True: sum(range(1000))",
    "in native code": "import ctypes; ready(); ctypes.CDLL(None).sleep(60)",
    "where all errors are caught": (
        "ready()\nwhile True:\n"
        "    try:\n        time.sleep(60)\n    except BaseException:\n        pass"
    ),
    "in a callback": (
        "class Held:\n    def __del__(self):\n        ready(); time.sleep(60)\n"
        "held = Held(); del held\nfiles.write_text(OUT / 'late', 'x')"
    ),
    "writing a file": (
        "with files.replacing(OUT / 'file') as t:\n"
        "    t.write_text('half'); ready(); time.sleep(60)"
    ),
    "writing a file, in native code": (
        "import ctypes\nwith files.replacing(OUT / 'file') as t:\n"
        "    t.write_text('half'); ready(); ctypes.CDLL(None).sleep(60)"
    ),
    "writing a folder": (
        "with new_folder(OUT / 'folder') as t:\n"
        "    (t / 'a').write_text('half'); ready(); time.sleep(60)"
    ),
    "importing": "ready(); import jax, jaxreloc.localization.jobs.querying; time.sleep(60)",
    "compiling": (
        "import jax, jax.numpy as jnp\n"
        "@jax.jit\n"
        "def f(x):\n"
        "    for i in range(3000): x = jnp.sin(x) @ x\n"
        "    return x\n"
        "ready(); f(jnp.ones((3, 3)))"
    ),
}


def run(program, out, delay=0.0):
    """The status and stderr of a program that is interrupted when it is ready."""
    text = HEAD.format(out=str(out)) + program
    command = [sys.executable, "-c", text]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **options) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            stderr = process.communicate(timeout=30)[1]
        finally:
            process.kill()
    return process.returncode, stderr


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_is_one_line_and_leaves_nothing(tmp_path, rng, moment):
    body = "\n".join(f"    {line}" for line in MOMENTS[moment].splitlines())
    program = f"def main(argv):\n{body}\nrun_script(main)"
    status, stderr = run(program, tmp_path, rng.uniform(0, 0.3))
    assert (status, stderr) == (EXIT_STATUS, "interrupted\n")
    assert os.listdir(tmp_path) == []


def test_before_anything_runs(tmp_path):
    program = "interrupts.install(); ready(); time.sleep(60); run_script(lambda argv: None)"
    assert run(program, tmp_path) == (EXIT_STATUS, "interrupted\n")


def test_after_all_is_done(tmp_path):
    program = (
        "import atexit\natexit.register(lambda: (ready(), time.sleep(1)))\n"
        "def main(argv):\n    files.write_text(OUT / 'file', 'whole')\nrun_script(main)"
    )
    assert run(program, tmp_path) == (0, "")
    assert (tmp_path / "file").read_text() == "whole"


def test_what_is_said_is_in_the_line(tmp_path):
    program = (
        "def main(argv):\n    with interrupts.saying(lambda: '3 kept;\\n go on'):\n"
        "        ready(); time.sleep(60)\nrun_script(main)"
    )
    assert run(program, tmp_path) == (EXIT_STATUS, "interrupted: 3 kept; go on\n")


LIVE = """
def main(argv):
    with interrupts.Request() as stop:
        ready()
        {work}
        while not stop.came: time.sleep(0.01)
        {after}
    files.write_text(OUT / "file", "whole")
run_script(main)
"""


@pytest.mark.parametrize("work", ["pass", "import ctypes; ctypes.CDLL(None).sleep(2)"])
def test_what_waits_for_an_interrupt_goes_on(tmp_path, work):
    """As a live camera does, whose end is an interrupt."""
    program = LIVE.format(work=work, after="time.sleep(2 * interrupts.GRACE_S)")
    assert run(program, tmp_path) == (0, "")
    assert (tmp_path / "file").read_text() == "whole"


def test_a_second_interrupt_ends_it(tmp_path):
    program = LIVE.format(work="pass", after="import os; os.kill(os.getpid(), 2); time.sleep(60)")
    assert run(program, tmp_path) == (EXIT_STATUS, "interrupted\n")
    assert os.listdir(tmp_path) == []


def test_a_training_saves_first(tmp_path):
    program = """
def main(argv):
    from jaxreloc.training.stopping import StopRequest
    with StopRequest() as stop:
        ready()
        import ctypes; ctypes.CDLL(None).sleep(2)
        while not stop.poll(): time.sleep(0.01)
        time.sleep(2 * interrupts.GRACE_S)
    files.write_text(OUT / "file", stop.name)
run_script(main)
"""
    assert run(program, tmp_path) == (0, "")
    assert (tmp_path / "file").read_text() == "SIGINT"
