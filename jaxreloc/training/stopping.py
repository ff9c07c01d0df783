"""Stopping a run from outside: SIGTERM and SIGINT ask it to save and end."""

import signal
from types import FrameType

import jax
import numpy as np

from jaxreloc import interrupts
from jaxreloc.training.step import AXIS

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """A context in which the first signal is noted and a second one acts as ever.

    Several processes agree on the step at which they stop, whichever of them was signalled.
    """

    def __init__(self):
        self.name: str | None = None  # of the signal that came here
        self._votes: jax.Array | None = None
        self._count = jax.pmap(lambda vote: jax.lax.psum(vote, AXIS), axis_name=AXIS)

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def poll(self) -> bool:
        """Whether to stop, the same answer in every process; to be called once a step."""
        if jax.process_count() == 1:
            return self.name is not None
        # Votes are read a step after they are cast, so that no process waits for the others.
        last = self._votes
        vote = np.full(jax.local_device_count(), self.name is not None, np.int32)
        self._votes = self._count(vote)
        return last is not None and int(last.addressable_shards[0].data[0]) > 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.name = signal.Signals(number).name
        if number == signal.SIGINT:
            interrupts.answered()
        for each, handler in self._previous.items():
            signal.signal(each, handler)
