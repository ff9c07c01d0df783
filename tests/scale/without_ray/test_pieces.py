"""Pieces come back in order, and a mistake ends the job with one line; Ray is a fake."""

import numpy as np
import pytest

from jaxreloc.usage import UsageError
from tests.scale.without_ray.fake_ray import imported_with_fake


@pytest.fixture
def scale(monkeypatch):
    with imported_with_fake(monkeypatch, "pieces") as (ray, pieces):
        yield ray, pieces.done


class Scaling:
    """Multiplies; of its pieces some are mistakes."""

    def __init__(self, factor, made):
        self._factor = factor
        made.append(self)
        self.number = len(made)

    def __call__(self, piece):
        if piece == "mistake":
            raise UsageError("photo.jpg: is no picture")
        if piece == "file":
            return open("/nowhere/at all").read()
        if piece == "full":
            raise OSError("no space")
        if piece == "bug":
            raise ValueError("broken")
        return {"number": self.number, "product": [self._factor * x for x in piece]}


@pytest.mark.parametrize("workers, expected", [(1, 1), (3, 3), (50, 7), (0, 1)])
def test_results_come_in_order_from_as_many_workers_as_are_of_use(scale, rng, workers, expected):
    ray, done = scale
    made, pieces = [], rng.integers(-99, 99, (7, 3)).tolist()
    found = list(done(Scaling, (10, made), pieces, workers))
    assert [x["product"] for x in found] == (10 * np.array(pieces)).tolist()
    assert [x["number"] for x in found] == [1 + k % expected for k in range(7)]
    assert len(made) == len(ray.workers) == expected
    (asked,) = ray.asked
    assert asked["min_size"] == asked["max_size"] == expected


@pytest.mark.parametrize("gpus, cpus_each, gpus_each", [(None, 1, None), (0, 1, None), (2, 0, 1)])
def test_a_worker_has_a_gpu_or_else_a_core(scale, gpus, cpus_each, gpus_each):
    ray, done = scale
    ray.resources |= {} if gpus is None else {"GPU": gpus}
    assert len(list(done(Scaling, (1, []), [[1]], 1))) == 1
    assert (ray.asked[0]["num_cpus"], ray.asked[0]["num_gpus"]) == (cpus_each, gpus_each)


def test_without_pieces_no_worker_is_made(scale):
    ray, done = scale
    assert list(done(Scaling, (1, []), [], 4)) == [] and ray.asked == []


@pytest.mark.parametrize(
    "piece, line",
    [
        ("mistake", "photo.jpg: is no picture"),
        ("file", "/nowhere/at all: No such file or directory"),
        ("full", "no space"),
    ],
)
def test_a_mistake_ends_the_job_with_its_line(scale, piece, line):
    """What was done before it is given out."""
    _, done = scale
    results = done(Scaling, (2, []), [[1], [2], piece, [3]], 2)
    assert [next(results)["product"] for _ in range(2)] == [[2], [4]]
    with pytest.raises(UsageError) as refused:
        next(results)
    assert str(refused.value) == line


def test_a_worker_that_cannot_be_made_ends_the_job_with_its_line(scale):
    _, done = scale

    class Unwilling(Scaling):
        def __init__(self, path):
            open(path).read()

    with pytest.raises(UsageError, match="^/nowhere/map: No such file or directory$"):
        list(done(Unwilling, ("/nowhere/map",), [[1], [2]], 2))


def test_a_bug_is_no_mistake_of_the_user(scale):
    _, done = scale
    with pytest.raises(ValueError, match="broken"):
        list(done(Scaling, (1, []), ["bug"], 1))


def test_an_error_of_ray_is_one_line(scale):
    ray, done = scale

    class Lost(Scaling):
        def __call__(self, piece):
            raise ray.exceptions.RayError("No space left on device\nand more")

    for name in ("ObjectStoreFullError", "OutOfDiskError"):
        setattr(ray.exceptions, name, type(name, (ray.exceptions.RayError,), {}))
    with pytest.raises(UsageError, match="a node's disk is full") as refused:
        list(done(Lost, (1, []), [[1]], 1))
    assert "\n" not in str(refused.value)
