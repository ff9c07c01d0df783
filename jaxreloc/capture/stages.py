"""One progress bar for work of several stages."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

from jaxreloc.progress_bars import progress_bar

T = TypeVar("T")


class Stages:
    """A context that shows the stage, and the time left by what all of them are expected to take.

    Args:
      seconds: what each stage is expected to take, by its name, in their order. Only their ratios
        matter for the time left, which follows the pace that is observed.
    """

    def __init__(self, seconds: Mapping[str, float]):
        self._seconds = dict(seconds)
        self._stage, self._done = "", 0.0

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Of stages that have not begun, what they will take, now that more is known."""
        self._seconds |= seconds
        self._bar.total = sum(self._seconds.values())

    def __enter__(self) -> "Stages":
        self._bar = progress_bar(total=sum(self._seconds.values()), counted=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def start(self, stage: str) -> None:
        """The stages before are done."""
        names = list(self._seconds)
        before = sum(self._seconds[name] for name in names[: names.index(stage)])
        self._stage = stage
        self._bar.set_description(stage, refresh=False)
        self._to(before)
        self._done = before

    def at(self, share: float) -> None:
        """This share of the stage is done."""
        self._to(self._done + min(max(share, 0.0), 1.0) * self._seconds[self._stage])

    def ticking(self, items: Iterable[T], total: int) -> Iterator[T]:
        """The items; each is a part of the stage once the next is asked for."""
        for count, item in enumerate(items, start=1):
            yield item
            self.at(count / max(total, 1))

    def _to(self, place: float) -> None:
        self._bar.update(max(place - self._bar.n, 0.0))
