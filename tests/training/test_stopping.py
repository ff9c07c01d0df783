"""Signals ask once; the handlers of before come back."""

import os
import signal

import pytest

from jaxreloc.training.stopping import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.poll() and stop.name is None
        os.kill(os.getpid(), number)
        assert stop.poll() and stop.name == number.name
    assert signal.getsignal(number) is before


@pytest.fixture
def interruptible():
    """Python's own handler, which a process started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_signal_acts_as_ever(interruptible):
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.name == "SIGTERM"
