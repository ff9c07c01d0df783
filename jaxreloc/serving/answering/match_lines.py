"""The matches behind an answer, to be drawn over the query and its neighbours."""

from typing import Any

import numpy as np

from jaxreloc.evaluation.report.matchers import matches_as_given, network_matcher
from jaxreloc.localization.jobs.querying import intrinsics_found
from jaxreloc.localization.query_state import Localization
from jaxreloc.serving.answering.batching import Question

MAX_LINES = 80  # of a neighbour
DIGITS = 4


def match_lines(question: Question, found: Localization) -> list[dict[str, Any]] | None:
    """For each neighbour of an answer: how many matches there are, and the likeliest to draw.

    `lines` are rows `xq yq xd yd` in shares of the width and height of the picture as given and of
    the map's picture; those that agree with the pose come first, `num_drawn_agreeing` of them.
    None of a network that does not match.
    """
    scene_map = question.localizer.scene_map
    matcher = network_matcher(scene_map)
    if matcher is None:
        return None
    asked_with = intrinsics_found(question.intrinsics, found)
    pairs = matches_as_given(matcher, question.image, asked_with, found)
    answers = []
    for row, pair in zip(found.neighbors, pairs, strict=True):
        in_query = (pair.query_px + 0.5) / question.image.shape[1::-1]
        in_db = (pair.db_px + 0.5) / scene_map.image_sizes[row]
        agreeing = np.flatnonzero(pair.inliers)[:MAX_LINES]
        others = np.flatnonzero(~pair.inliers)[: MAX_LINES - len(agreeing)]
        lines = np.hstack([in_query, in_db])[np.r_[agreeing, others]]
        answers.append(
            {
                "num": len(pair.inliers),
                "num_agreeing": int(pair.inliers.sum()),
                "num_drawn_agreeing": len(agreeing),
                "lines": np.round(lines, DIGITS).tolist(),
            }
        )
    return answers
