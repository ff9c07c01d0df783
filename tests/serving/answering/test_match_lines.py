import dataclasses

import numpy as np
import pytest

from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.serving.answering.batching import Question
from jaxreloc.serving.answering.match_lines import MAX_LINES, match_lines
from tests.evaluation.report.test_matchers import answer
from tests.localization.fakes import MatchingOracle, OracleNetwork, looking_frames


def asked(rng, network):
    """A question about a picture, the map's frames and the pose of the picture."""
    frames, query = looking_frames(rng, 4), looking_frames(rng, 1)
    localizer = Localizer(SceneMap.from_images(network, encode_frames(frames, network)))
    return Question(localizer, query.images[0], query.intrinsics[0]), frames, query


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_lines_join_what_both_pictures_show(rng, wrong):
    """Shares of the pictures' sides, those that agree first: their rays meet, of the others not."""
    question, frames, query = asked(rng, MatchingOracle(rng, wrong=wrong))
    pose, sizes = query.world_from_cam[0], np.array([query.image_sizes[0], frames.image_sizes[0]])
    found = match_lines(question, answer(pose, [2, 0]))
    assert len(found) == 2
    for neighbor, of_pair in zip([2, 0], found, strict=True):
        lines, drawn = np.array(of_pair["lines"]), of_pair["num_drawn_agreeing"]
        assert len(lines) == min(MAX_LINES, of_pair["num"])
        assert drawn == min(MAX_LINES, of_pair["num_agreeing"])
        assert of_pair["num_agreeing"] > (0.9 - 1.3 * wrong) * of_pair["num"]
        db_from_query = np.linalg.inv(frames.world_from_cam[neighbor]) @ pose
        rays = [
            np.c_[shares * size - 0.5, np.ones(len(lines))] @ np.linalg.inv(K).T
            for shares, size, K in zip(
                (lines[:, :2], lines[:, 2:]),
                sizes,
                (query.intrinsics[0], frames.intrinsics[neighbor]),
                strict=True,
            )
        ]
        normals = np.cross(db_from_query[:3, 3], rays[0] @ db_from_query[:3, :3].T)
        off = np.abs((normals * rays[1]).sum(axis=1)) / np.linalg.norm(normals[:, :2], axis=1)
        assert np.quantile(off[:drawn], 0.9) < 5 / MatchingOracle.FOCAL


def test_of_a_refused_picture_nothing_agrees(rng):
    question, _, query = asked(rng, MatchingOracle(rng, wrong=0.0))
    refused = dataclasses.replace(answer(query.world_from_cam[0], [1, 3]), success=False)
    for of_pair in match_lines(question, refused):
        assert of_pair["num"] > 0 and of_pair["num_agreeing"] == 0
        assert of_pair["num_drawn_agreeing"] == 0


def test_a_network_that_matches_nothing_has_no_lines(rng):
    question, _, query = asked(rng, OracleNetwork())
    assert match_lines(question, answer(query.world_from_cam[0], [1])) is None
