"""The matches behind an answer, to be drawn over the query and its neighbours."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxreloc.evaluation.report.matchers import agreeing, to_pixels
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.images import image_size, turn
from jaxreloc.localization.jobs.querying import intrinsics_found
from jaxreloc.localization.query_state import Localization
from jaxreloc.models.matching.rays import RayTracks
from jaxreloc.serving.answering.batching import Question

MAX_LINES = 80  # of a neighbour
DIGITS = 4


def match_lines(question: Question, found: Localization) -> list[dict[str, Any]] | None:
    """For each neighbour of an answer: how many matches there are, and some to draw.

    `lines` are rows `xq yq xd yd` in shares of the width and height of the picture as given and of
    the map's picture; those that agree with the pose come first, `num_drawn_agreeing` of them.
    None of a network that does not match, or where the neighbours cannot be told again.
    """
    localizer = question.localizer
    asked_with = intrinsics_found(question.intrinsics, found)
    image, intrinsics, turned_from_given = turn(question.image, asked_with, found.turn_deg // 90)
    query = localizer.retrieve(image, intrinsics, allowed=question.allowed)
    method = localizer.method
    if found.in_context:
        method = method.in_context(was_refused=True)
    tracks = method.relate(query)
    if not isinstance(tracks, RayTracks):
        return None
    if not np.array_equal(query.neighbors[query.is_neighbor], found.neighbors):
        return None
    x_query, x_db = np.asarray(tracks.x_query, float), np.asarray(tracks.x_db, float)
    weights, sigma = np.asarray(tracks.weights), np.asarray(tracks.sigma)
    given = np.c_[x_query, np.ones(len(x_query))] @ turned_from_given
    in_query = _shares(given[:, :2] / given[:, 2:], asked_with, question.image.shape)
    answers = []
    for k in np.flatnonzero(query.is_neighbor):
        row = int(query.neighbors[k])
        matched = weights[k] > 0
        agrees = matched & found.success
        if found.success:
            world_from_query = found.world_from_query.copy()
            world_from_query[:3, :3] = world_from_query[:3, :3] @ turned_from_given.T
            db_from_query = inverse(localizer.scene_map.world_from_db[row]) @ world_from_query
            agrees &= agreeing(db_from_query, x_query, x_db[k], sigma[k])
        width, height = image_size(localizer.scene_map.pictures[row], "a picture of the map")
        in_db = _shares(
            x_db[k], localizer.scene_map.network_intrinsics[row], (height, width)
        )
        first = _some(agrees, weights[k], MAX_LINES)
        then = _some(matched & ~agrees, weights[k], MAX_LINES - len(first))
        lines = np.hstack([in_query, in_db])[np.r_[first, then]]
        answers.append(
            {
                "num": int(matched.sum()),
                "num_agreeing": int(agrees.sum()),
                "num_drawn_agreeing": len(first),
                "lines": np.round(lines, DIGITS).tolist(),
            }
        )
    return answers


def _shares(
    x: Float[np.ndarray, "K 2"], intrinsics: Float[np.ndarray, "3 3"], shape: tuple[int, ...]
) -> Float[np.ndarray, "K 2"]:
    """Pixels in shares of the picture's width and height."""
    return (to_pixels(x, intrinsics) + 0.5) / (shape[1], shape[0])


def _some(
    chosen: Bool[np.ndarray, "K"], weights: Float[np.ndarray, "K"], at_most: int
) -> np.ndarray:
    """The heaviest ones."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-weights[rows], kind="stable")][:at_most]
