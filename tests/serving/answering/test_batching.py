"""The queue and its thread, with a localizer that a test holds back."""

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from jaxreloc.serving.answering import batching
from jaxreloc.serving.answering.batching import SIZES, BatchingWorker, Question, QueueFull

TIMEOUT_S = 30


class HeldLocalizer:
    """Answers with the picture's number, once `go` is set; notes what was asked together."""

    def __init__(self, wrong=()):
        self.go, self.begun = threading.Event(), threading.Event()
        self.batches, self.deviations, self._wrong = [], [], set(wrong)

    def __call__(self, image, intrinsics, allowed=None, focal_deviation=None):
        self.deviations.append([focal_deviation])
        return self._answer([image], None if allowed is None else "allowed")[0]

    def localize_all(self, images, intrinsics, focal_deviations, batch_size):
        assert len(images) == len(intrinsics) == len(focal_deviations) <= batch_size in SIZES
        self.deviations.append(list(focal_deviations))
        return self._answer(images, batch_size)

    def _answer(self, images, how):
        self.begun.set()
        assert self.go.wait(TIMEOUT_S)
        self.batches.append((list(images), how))
        if self._wrong & set(images):
            raise ValueError("wrong")
        return [10 * image for image in images]


@pytest.fixture
def worker():
    made = BatchingWorker(max_waiting=10)
    yield made
    made.close()


def ask(worker, localizer, number, **options):
    return worker.ask(Question(localizer, number, np.eye(3), **options))


def held_with(worker, localizer, numbers):
    """The first is in the making while the others come."""
    futures = [ask(worker, localizer, numbers[0])]
    assert localizer.begun.wait(TIMEOUT_S)
    return futures + [ask(worker, localizer, number) for number in numbers[1:]]


def test_what_waits_is_one_batch(worker):
    localizer = HeldLocalizer()
    futures = held_with(worker, localizer, [1, 2, 3, 4])
    localizer.go.set()
    answers = [future.result(TIMEOUT_S) for future in futures]
    assert [x.found for x in answers] == [10, 20, 30, 40]
    assert [x.batch for x in answers] == [1, 3, 3, 3]
    assert localizer.batches == [([1], None), ([2, 3, 4], 4)]
    assert all(x.waited_s >= 0 for x in answers)


@pytest.mark.parametrize("together", [1, 3])
def test_each_has_its_own_deviation_of_the_focal_length(worker, together):
    localizer = HeldLocalizer()
    first = ask(worker, localizer, 1)
    assert localizer.begun.wait(TIMEOUT_S)
    deviations = [0.5, None, 0.03][:together]
    for number, deviation in enumerate(deviations, 2):
        last = ask(worker, localizer, number, focal_deviation=deviation)
    localizer.go.set()
    first.result(TIMEOUT_S), last.result(TIMEOUT_S)
    assert localizer.deviations == [[None], deviations]


def test_those_who_were_answered_together_are_waited_for(worker, monkeypatch):
    localizer = HeldLocalizer()
    futures = held_with(worker, localizer, [1, 2, 3, 4])
    monkeypatch.setattr(batching, "GATHER_S", 10.0 * TIMEOUT_S)
    localizer.go.set()
    for future in futures:
        future.result(TIMEOUT_S)
    futures = [ask(worker, localizer, number) for number in (5, 6, 7)]
    assert [x.result(TIMEOUT_S).found for x in futures] == [50, 60, 70]
    assert localizer.batches[-1] == ([5, 6, 7], 4)


def test_a_batch_has_its_most(worker):
    localizer = HeldLocalizer()
    futures = held_with(worker, localizer, list(range(11)))
    localizer.go.set()
    assert [x.result(TIMEOUT_S).found for x in futures] == [10 * i for i in range(11)]
    assert [len(images) for images, _ in localizer.batches] == [1, SIZES[-1], 2]


def test_maps_do_not_mix_and_priors_are_alone(worker):
    one, other = HeldLocalizer(), HeldLocalizer()
    other.go.set()
    first = ask(worker, one, 1)
    assert one.begun.wait(TIMEOUT_S)
    near = np.ones(3, bool)
    rest = [
        ask(worker, other, 2),
        ask(worker, one, 3),
        ask(worker, other, 4, allowed=near),
        ask(worker, other, 5),
    ]
    one.go.set()
    assert [x.result(TIMEOUT_S).found for x in (first, *rest)] == [10, 20, 30, 40, 50]
    assert one.batches == [([1], None), ([3], None)]
    assert other.batches == [([2, 5], 2), ([4], "allowed")]


def test_the_queue_is_bounded_and_serves_the_next(worker):
    localizer = HeldLocalizer()
    futures = held_with(worker, localizer, list(range(11)))
    for _ in range(2):
        with pytest.raises(QueueFull) as full:
            ask(worker, localizer, 99)
        assert full.value.retry_after_s >= 1
    with pytest.raises(QueueFull):
        worker.check_room()
    assert worker.num_waiting == 10
    localizer.go.set()
    for future in futures:
        future.result(TIMEOUT_S)
    assert ask(worker, localizer, 7).result(TIMEOUT_S).found == 70


def test_one_that_fails_takes_no_other_with_it(worker):
    localizer = HeldLocalizer(wrong=[3])
    futures = held_with(worker, localizer, [1, 2, 3, 4])
    localizer.go.set()
    assert [futures[i].result(TIMEOUT_S).found for i in (0, 1, 3)] == [10, 20, 40]
    with pytest.raises(ValueError, match="wrong"):
        futures[2].result(TIMEOUT_S)


def test_who_has_left_is_not_answered(worker):
    localizer = HeldLocalizer()
    futures = held_with(worker, localizer, [1, 2, 3])
    assert futures[1].cancel()
    localizer.go.set()
    assert futures[2].result(TIMEOUT_S).found == 30
    with pytest.raises(CancelledError):
        futures[1].result(TIMEOUT_S)
    assert localizer.batches == [([1], None), ([3], None)]


def test_what_follows_an_answer_runs_in_the_same_thread(worker):
    localizer = HeldLocalizer()
    localizer.go.set()
    name = ask(worker, localizer, 1, then=lambda found: (found, threading.current_thread().name))
    assert name.result(TIMEOUT_S).more == (10, "localizing")
    failing = ask(worker, localizer, 1, then=lambda found: found / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(TIMEOUT_S)
    assert ask(worker, localizer, 2).result(TIMEOUT_S).found == 20


def test_closing_answers_what_waits():
    worker, localizer = BatchingWorker(max_waiting=10), HeldLocalizer()
    futures = held_with(worker, localizer, [1, 2])
    localizer.go.set()
    worker.close()
    assert [x.result(0).found for x in futures] == [10, 20]
    with pytest.raises(RuntimeError, match="closed"):
        ask(worker, localizer, 3)
