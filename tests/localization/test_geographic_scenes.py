"""Real scenes in coordinates as of UTM: the errors are those of the same scene at the origin."""

import dataclasses

import numpy as np
import pytest

from jaxreloc.data.datasets import split_frames
from jaxreloc.evaluation.metrics import pose_errors
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.weights.network_weights import shipped_matcher

SHIFT = np.array([500_000.0, 5_000_000.0, 300.0])
QUERY_EVERY = {"tum_office": 2, "fox": 5}
CANVAS = (256, 256)  # whole images of both scenes fit; what is compiled serves both


@pytest.fixture(scope="module")
def network():
    return MatchNetwork(shipped_matcher(CANVAS))


@pytest.mark.slow
@pytest.mark.parametrize("scene", QUERY_EVERY)
def test_medians_are_those_at_the_origin(scene, shared_data, network, tmp_path):
    frames = read_posed_images(shared_data / scene)
    database, queries = (
        split_frames(frames, part, query_every=QUERY_EVERY[scene])
        for part in ("database", "query")
    )
    encoded = encode_frames(database, network)
    near = medians(network, encoded, queries, np.zeros(3), tmp_path / "near")
    far = medians(network, encoded, queries, SHIFT, tmp_path / "far")
    print(f"{scene}: {near} at the origin, {far} in geographic coordinates")
    np.testing.assert_allclose(far, near, rtol=0.01)


def medians(network, encoded, queries, shift, folder):
    """Of position and rotation, of a map that was written and read again."""
    world_from_cam = encoded.world_from_cam.copy()
    world_from_cam[:, :3, 3] += shift
    moved = dataclasses.replace(encoded, world_from_cam=world_from_cam)
    SceneMap.create(folder, network, [moved])
    opened = dataclasses.replace(SceneMap.open(folder), network=network)  # compiled already
    locate = Localizer(with_depth(opened), num_neighbors=5, quarter_turns=False)
    found = [locate(queries.images[i], queries.intrinsics[i]) for i in range(len(queries))]
    truth = queries.world_from_cam.copy()
    truth[:, :3, 3] += shift
    success = np.array([x.success for x in found])
    errors = pose_errors(np.stack([x.world_from_query for x in found]), truth, success)
    return np.median(errors.position_m), np.median(errors.rotation_deg)
