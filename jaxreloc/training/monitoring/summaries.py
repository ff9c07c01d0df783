"""TensorBoard: curves and pictures of a run, written by its first process alone."""

import pathlib
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


class Summaries:
    """Writes into `folder`; `tensorboard --logdir=folder` shows it.

    Events are written as they come, in the caller's thread: at the first one that the disk refuses
    the curves end, which is said, and the run goes on.

    Args:
      start_step: of a resumed run; what an earlier process wrote from there on is hidden.
      say: shows a line to the user.
    """

    def __init__(self, folder: pathlib.Path, start_step: int, say: Callable[[str], None]):
        self._folder, self._say = folder, say
        self._writer: EventsWriter | None = None
        if jax.process_index() != 0:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"))
        except OSError as error:
            self._give_up(error)
        if start_step:
            start = SessionLog(status=SessionLog.START)
            self._write([Event(step=start_step + 1, session_log=start)])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point on each curve; names before the first slash group the curves."""
        self._write(
            [Event(step=step, summary=summary.scalar(name, x)) for name, x in values.items()]
        )

    def image(self, step: int, name: str, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        """A picture."""
        self._write([Event(step=step, summary=summary.image(name, rgb, dataformats="HWC"))])

    def text(self, step: int, name: str, markdown: str) -> None:
        """A text, such as the config."""
        self._write([Event(step=step, summary=summary.text(name, markdown))])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, events: list[Event]) -> None:
        if self._writer is None:
            return
        try:
            for event in events:
                event.wall_time = time.time()
                self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        self._say(
            f"{self._folder}: cannot be written ({error.strerror}); no more curves and pictures "
            "until the run is resumed; training goes on"
        )
