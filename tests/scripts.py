"""Commands as a user runs them: in a process of their own, or faster, in the tests' own."""

import contextlib
import io
import logging
import pathlib
import subprocess
import sys

import pytest

from jaxreloc.cli import main
from jaxreloc.usage import EXIT_STATUS

ROOT = pathlib.Path(__file__).parents[1]


def run_script(name: str, *arguments) -> subprocess.CompletedProcess:
    """A script of the project's folder."""
    return _run(name, *arguments)


def run_command(*arguments) -> subprocess.CompletedProcess:
    """`jaxreloc ...`."""
    return _run("-m", "jaxreloc", *arguments)


def call_command(*arguments) -> subprocess.CompletedProcess:
    """What run_command gives, without a process: nothing is imported or compiled again."""
    argv = list(map(str, arguments))
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, _warnings_to(stderr):
        patch.chdir(ROOT)
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            status = main.run(argv)
    return subprocess.CompletedProcess(argv, status, stdout.getvalue(), stderr.getvalue())


def _run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@contextlib.contextmanager
def _warnings_to(stream: io.StringIO):
    """Shows warnings, as a process does."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


def assert_fails(result: subprocess.CompletedProcess, *words: str) -> None:
    """One line, exit status 2, and the words in it."""
    assert result.returncode == EXIT_STATUS, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in result.stderr
    for word in words:
        assert word in last, last
