"""Scripts as a user runs them: in a process of their own, or in the tests' own, which is faster."""

import contextlib
import io
import logging
import pathlib
import runpy
import subprocess
import sys

import pytest
from absl import flags

from jaxreloc.usage import EXIT_STATUS, UsageError

ROOT = pathlib.Path(__file__).parents[1]


def run_script(name: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, name, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def call_script(name: str, *arguments) -> subprocess.CompletedProcess:
    """What run_script gives, without a process: nothing is imported or compiled again.

    A mistake is worded as `usage.run_script` words it, which tests of processes hold it to.
    """
    argv = [name, *map(str, arguments)]
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, _own_flags(), _warnings_to(stderr):
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", argv)
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            main = runpy.run_path(name)["main"]
            try:
                main(flags.FLAGS(argv))
            except (flags.Error, UsageError) as error:
                status = EXIT_STATUS
                stderr.write("error: " + " ".join(str(error).split()) + "\n")
    return subprocess.CompletedProcess(argv, status, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _own_flags():
    """Only absl's own flags and those defined within, which are gone afterwards."""
    before = {name: flags.FLAGS[name] for name in flags.FLAGS}
    for name in before:
        if not flags.FLAGS.find_module_defining_flag(name, "").startswith("absl"):
            delattr(flags.FLAGS, name)
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - set(before):
            delattr(flags.FLAGS, name)
        for name in set(before) - set(flags.FLAGS):
            flags.FLAGS[name] = before[name]
        flags.FLAGS.unparse_flags()


@contextlib.contextmanager
def _warnings_to(stream: io.StringIO):
    """Shows what a script's warnings are, as absl's handler does."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    logging.getLogger("absl").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("absl").removeHandler(handler)


def assert_fails(result: subprocess.CompletedProcess, *words: str) -> None:
    """One line, exit status 2, and the words in it."""
    assert result.returncode == EXIT_STATUS, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in result.stderr
    for word in words:
        assert word in last, last
