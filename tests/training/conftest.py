"""What the tests of whole runs share."""

import contextlib
import os
import signal

import pytest

from jaxreloc.training import loop
from tests.training import tiny


@pytest.fixture
def tiny_run(monkeypatch) -> None:
    """Within the test, runs can be made of tiny.config()."""
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)


@pytest.fixture
def stop_at(monkeypatch):
    """`with stop_at(number):` runs get SIGTERM once that step is done."""

    @contextlib.contextmanager
    def stop_at(number: int):
        whole_step = loop._Run.step

        def step(run):
            whole_step(run)
            if run.number == number:
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(loop._Run, "step", step)
            yield

    return stop_at
