"""Why a photograph has no pose, worked by hand."""

from jaxreloc.capture import coverage
from jaxreloc.capture.sfm.mapping import Pair

FEATURES = {"a": 2000, "b": 2000, "c": 2000, "dark": 20, "blurred": 900, "far": 2000}
FEATURES |= {"near": 2000, "x": 2000, "y": 2000, "z": 2000}
PAIRS = [
    *(Pair("a", "b", 300), Pair("b", "c", 200), Pair("x", "y", 90), Pair("y", "z", 80)),
    *(Pair("a", "c", 60), Pair("near", "b", 25), Pair("a", "y", 16)),
]
SHARP = dict.fromkeys(FEATURES, 1.0) | {"blurred": 0.2}


def test_each_has_its_reason_and_a_remedy():
    registered = ["a", "b", "c"]
    found = coverage.explain(registered, [["x", "y", "z"]], FEATURES, PAIRS, SHARP)
    by_name = {x.name: f"{x.reason}; {x.advice}" for x in found}
    assert set(by_name) == set(FEATURES) - set(registered)
    assert by_name["dark"].startswith("too few features (20); photograph something with more")
    assert by_name["blurred"].startswith("blurred (20% of the sharpness")
    assert by_name["far"].startswith("no overlap with the others")
    assert by_name["near"].startswith("thin overlap (25 matches with b")
    assert by_name["near"].endswith("between it and b")
    assert by_name["y"].startswith("one of 3 that hang together") and by_name["y"].endswith("to a")


def test_weak_links_are_held_by_fewer_than_two():
    assert coverage.weak_links(["a", "b", "c"], PAIRS) == []
    assert coverage.weak_links(["a", "b", "c", "near"], PAIRS) == ["near"]
