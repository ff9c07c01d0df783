"""Which answer of several looks is kept, by cases worked by hand."""

import dataclasses

import numpy as np
import pytest

from jaxreloc.localization.clock import STAGES, StageClock
from jaxreloc.localization.quarter_turns import View
from jaxreloc.localization.query_state import Localization, Query
from jaxreloc.localization.second_looks import (
    best_in_context,
    best_of_turns,
    likeliest,
    to_match_in_context,
    turns_to_try,
)

TO_BE_SURE = 0.95  # the confidence that an answer to a turned picture has to exceed


def times(milliseconds: float) -> dict[str, float]:
    """So long in the first stage, twice as long in the second, and so on."""
    return {stage: milliseconds * k for k, stage in enumerate(STAGES, 1)}


def answer(confidence, *, turn_deg=0, refused=False, spent=1.0, **fields) -> Localization:
    values = {
        "world_from_query": np.eye(4),
        "success": not refused,
        "confidence": confidence,
        "location_inliers": np.ones(1, bool),
        "rotation_inliers": np.ones(1, bool),
        "position_covariance": np.eye(3),
        "rotation_std": 0.1,
        "neighbors": np.zeros(1, int),
        "stage_ms": times(spent),
        "refused": refused,
        "turn_deg": turn_deg,
    }
    return Localization(**values | fields)


def query(similarity, turn_deg=0, spent=0.0) -> Query:
    count = 1 if similarity is None else len(similarity)
    return Query(
        view=View(np.zeros((1, 1, 3), np.uint8), np.eye(3), turn_deg),
        network_intrinsics=np.eye(3)[None],
        network_image=np.zeros((1, 1, 3), np.uint8),
        features=None,
        neighbors=np.arange(count),
        is_neighbor=np.ones(count, bool),
        candidates=None,
        clock=StageClock(times(spent)),
        similarity=None if similarity is None else np.array(similarity),
    )


def rolled(degrees) -> np.ndarray:
    """A camera's axes, turned about the direction it looks in."""
    c, s = np.rint(np.cos(np.radians(degrees))), np.rint(np.sin(np.radians(degrees)))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_a_refused_picture_is_turned_all_ways():
    for is_rolled in (False, True):
        found = answer(0.0, refused=True)
        assert list(turns_to_try(found, np.eye(4)[None], rolled=is_rolled)) == [1, 2, 3]


@pytest.mark.parametrize("degrees, turns", [(0, []), (-90, [1]), (180, [2]), (90, [3])])
def test_an_answer_that_is_rolled_is_turned_upright(degrees, turns):
    """Turned counterclockwise, a picture's left edge is its lower one: new x is y, new y is -x."""
    pose = rolled(degrees)
    if len(turns):
        new_from_old = np.linalg.matrix_power([[0, -1, 0], [1, 0, 0], [0, 0, 1]], turns[0])
        np.testing.assert_array_equal(pose[:3, :3] @ new_from_old, np.eye(3))
    agree = np.array([True, False, False, False])
    found = answer(
        0.5,
        world_from_query=pose,
        neighbors=np.array([4, 0, 1, 2]),
        rotation_inliers=agree,
        location_inliers=~agree,
    )
    # Of the map, only image 4 agrees on the rotation, and has a say.
    world_from_db = np.stack([*[rolled(degrees + 90)] * 3, rolled(180), np.eye(4)])
    assert list(turns_to_try(found, world_from_db, rolled=True)) == turns
    assert list(turns_to_try(found, world_from_db, rolled=False)) == []
    failed = dataclasses.replace(found, success=False)
    assert list(turns_to_try(failed, world_from_db, rolled=True)) == []


def test_three_neighbours_vote_for_the_likeliest_view():
    views = [
        query([0.9, 0.1, 0.1, 0.1, 0.1]),  # 1.1
        query([0.1, 0.5, 0.4, 0.1, 0.3]),  # 1.2
        query([0.3, 0.3, 0.3, 0.3, 0.3]),  # 0.9, of all five most
        query([0.6, 0.55]),  # 1.15, of the two that there are
    ]
    first, others = likeliest(views)
    assert [id(x) for x in (*first, *others)] == [id(views[i]) for i in (1, 3, 0, 2)]
    assert len(first) == 1


def test_of_equally_likely_views_the_first_is_taken():
    views = [query([0.25, 0.5]), query([0.5, 0.25]), query([0.5, 0.25])]
    first, others = likeliest(views)
    assert first[0] is views[0]
    assert others[0] is views[1] and others[1] is views[2]


def test_where_nothing_is_matched_all_views_are_located():
    views = [query([0.5]), query(None)]
    first, others = likeliest(views)
    assert first is views and len(others) == 0


@pytest.mark.parametrize(
    "confidences, kept",
    [([0.94, 0.93], 0), ([TO_BE_SURE, 0.1], 0), ([0.951, 0.2], 1), ([0.96, 0.97], 2)],
)
def test_an_answer_to_a_turned_picture_has_to_be_sure_where_it_was_refused(confidences, kept):
    found = answer(0.99, refused=True)  # what was refused has no say
    turned = [answer(x, turn_deg=90 * k) for k, x in enumerate(confidences, 1)]
    assert best_of_turns(found, turned, ()).turn_deg == 90 * kept


@pytest.mark.parametrize("confidence, kept", [(0.4, 0), (0.5, 0), (0.51, 90)])
def test_a_turned_picture_replaces_an_answer_of_less_confidence(confidence, kept):
    turned = [answer(confidence, turn_deg=90)]
    assert best_of_turns(answer(0.5), turned, ()).turn_deg == kept


def test_what_failed_is_not_kept_and_the_first_of_equals_is():
    failed = answer(0.99, turn_deg=90, success=False)
    equals = [answer(0.98, turn_deg=180), answer(0.98, turn_deg=270)]
    assert best_of_turns(answer(0.0, refused=True), [failed, *equals], ()).turn_deg == 180
    assert best_of_turns(answer(0.5), [], ()).turn_deg == 0


def test_all_looks_take_their_time():
    found = answer(0.5, spent=1.0)
    turned = [answer(0.9, turn_deg=90, spent=10.0), answer(0.2, turn_deg=180, spent=100.0)]
    best = best_of_turns(found, turned, [query([0.1], spent=1000.0)])
    assert best.turn_deg == 90 and best.stage_ms == times(1111.0)
    assert found.stage_ms == times(1.0) and turned[0].stage_ms == times(10.0)
    for again in (answer(0.9, spent=10.0), answer(0.1, spent=10.0)):
        best = best_in_context(found, again, judged_as_refused=False)
        assert best.stage_ms == times(11.0)


@pytest.mark.parametrize(
    "confidence, success, kept",
    [
        (0.51, True, True),
        (0.5, True, False),
        (0.2, True, False),
        (0.9, False, False),
    ],
)
def test_the_more_confident_one_of_two_is_kept(confidence, success, kept):
    again = answer(confidence, success=success, in_context=True)
    for judged in (False, True):
        best = best_in_context(answer(0.5), again, judged_as_refused=judged)
        assert best.in_context == kept
        assert best.confidence == (confidence if kept else 0.5)


@pytest.mark.parametrize(
    "turn_deg, judged_as_refused, least",
    [
        (0, False, 0.0),
        (0, True, 0.0),
        (90, True, 0.0),
        (90, False, TO_BE_SURE),
    ],
)
def test_in_context_a_refused_picture_is_answered_as_its_judge_allows(
    turn_deg, judged_as_refused, least
):
    """A turned one has to be sure unless what judges it knows of turned pictures."""
    found = answer(0.99, refused=True)
    for above in (0.01, 0.0):
        again = answer(least + above, turn_deg=turn_deg, in_context=True)
        best = best_in_context(found, again, judged_as_refused=judged_as_refused)
        assert best.in_context == (above > 0)


def test_context_looks_at_the_view_that_was_answered_or_the_likeliest():
    views = [query([0.9], 0, 1.0), query([0.1], 90, 2.0), query([0.2], 180, 3.0)]
    for turn_deg in (0, 90, 180):
        chosen = to_match_in_context(answer(0.5, turn_deg=turn_deg), views)
        assert chosen.view is views[turn_deg // 90].view
        assert chosen.clock.stage_ms == times(0.0)
    assert views[1].clock.stage_ms == times(2.0)
    refused = answer(0.0, turn_deg=90, refused=True)
    assert to_match_in_context(refused, views).view is views[0].view
