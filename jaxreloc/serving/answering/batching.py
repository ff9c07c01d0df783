"""Queries that wait are answered as one batch, by the one thread that computes.

A query that comes while nobody else is there is answered at once and alone; while a batch is
computed the next one gathers. Those who were answered together mostly ask again together, so after
a batch as many are waited for, for GATHER_S at most. An answer does not depend on its batch.
"""

import collections
import concurrent.futures
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.query_state import Localization

SIZES = (1, 2, 4, 8)  # of batches: a program is compiled for each
GATHER_S = 0.05  # without it one of them is computed alone, and the others after it
FIRST_GUESS_S = 0.5  # of a query, before any was timed
NEWEST_SHARE = 0.2  # of the last batch in the running mean


@dataclasses.dataclass(frozen=True)
class Question:
    """A picture to localize.

    Attributes:
      focal_deviation: of a focal length that is found along with the pose; None: it is known.
      allowed: the database images that may be neighbours; None allows all, and goes into batches.
      then: is called with the answer in the computing thread; what it gives goes along.
    """

    localizer: Localizer
    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    focal_deviation: float | None = None
    allowed: Bool[np.ndarray, "M"] | None = None
    then: Callable[[Localization], object] | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a question."""

    found: Localization
    more: object  # of `then`
    waited_s: float
    batch: int  # questions that were answered together


class QueueFull(Exception):
    """Too many wait; `retry_after_s` is when about half of them will have been answered."""

    def __init__(self, retry_after_s: int):
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclasses.dataclass
class _Waiting:
    question: Question
    future: concurrent.futures.Future
    since: float


class BatchingWorker:
    """Answers questions in the order in which they come; those of one map at once.

    Args:
      max_waiting: questions that wait, those in the making not counted.
    """

    def __init__(self, *, max_waiting: int):
        self._max_waiting = max_waiting
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._mean_s = FIRST_GUESS_S
        self._last_batch, self._last_end = 0, -math.inf
        self._thread = threading.Thread(target=self._run, name="localizing", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Questions that wait."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raises QueueFull if nothing can be asked now, before the work that a question takes."""
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull(max(1, math.ceil(self._mean_s * len(self._waiting) / 2)))

    def ask(self, question: Question) -> concurrent.futures.Future[Answer]:
        """The answer to come; a question whose future is cancelled is not answered.

        Raises:
          QueueFull: too many wait.
          RuntimeError: the worker is closed.
        """
        future: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            self.check_room()
            self._waiting.append(_Waiting(question, future, time.perf_counter()))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Answers what waits, then ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._answer(batch)
            self._last_batch, self._last_end = len(batch), time.perf_counter()

    def _next(self) -> list[_Waiting]:
        """The oldest question with others of its map; empty once all is done."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                if self._last_batch > 1:
                    self._changed.wait_for(
                        lambda: len(self._waiting) >= self._last_batch or self._closed,
                        max(0.0, self._last_end + GATHER_S - time.perf_counter()),
                    )
                taken = _together(list(self._waiting))
                for one in taken:
                    self._waiting.remove(one)
            if live := [x for x in taken if x.future.set_running_or_notify_cancel()]:
                return live

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        begin = time.perf_counter()
        try:
            found = _localize([one.question for one in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:  # one that fails takes no other with it
                for one in batch:
                    self._answer([one])
            return
        seconds = time.perf_counter() - begin
        self._mean_s += NEWEST_SHARE * (seconds / len(batch) - self._mean_s)
        for one, answer in zip(batch, found, strict=True):
            try:
                more = one.question.then(answer) if one.question.then else None
            except Exception as error:
                one.future.set_exception(error)
                continue
            one.future.set_result(Answer(answer, more, begin - one.since, len(batch)))


def _together(waiting: Sequence[_Waiting]) -> list[_Waiting]:
    """The oldest one and those that can be answered with it."""
    first = waiting[0].question
    if first.allowed is not None:
        return [waiting[0]]
    same = [
        x
        for x in waiting
        if x.question.localizer is first.localizer and x.question.allowed is None
    ]
    return same[: SIZES[-1]]


def _localize(questions: Sequence[Question]) -> list[Localization]:
    first = questions[0]
    if len(questions) == 1:
        found = first.localizer(
            first.image,
            first.intrinsics,
            allowed=first.allowed,
            focal_deviation=first.focal_deviation,
        )
        return [found]
    return first.localizer.localize_all(
        [x.image for x in questions],
        [x.intrinsics for x in questions],
        [x.focal_deviation for x in questions],
        batch_size=next(size for size in SIZES if size >= len(questions)),
    )
