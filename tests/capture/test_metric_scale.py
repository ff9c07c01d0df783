"""The unit of a model: by a distance, by GPS, by a network whose lengths are exact."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.capture import metric_scale
from jaxreloc.capture.metric_scale import Distance
from jaxreloc.formats.common.geodesy import GeographicOrigin, earth_from_enu, geographic
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.fakes import OracleNetwork, oracle_frames

PLACE = GeographicOrigin(60.1867, 24.8283, 10.0)


def model_and_places(rng, enu):
    """Poses in the axes and the unit of some model, and the places of the cameras by GPS."""
    count = len(enu)
    earth = earth_from_enu(PLACE)
    places = [geographic(earth[:3, :3] @ x + earth[:3, 3]) for x in enu]
    poses = np.tile(np.eye(4), (count, 1, 1))
    turn, scale = Rotation.random(rng=rng).as_matrix(), rng.uniform(0.05, 20)
    poses[:, :3, :3] = turn.T @ Rotation.random(count, rng=rng).as_matrix()
    poses[:, :3, 3] = (enu - rng.normal(0, 50, 3)) @ turn / scale
    return poses, [dataclasses.astuple(place) for place in places], scale


def test_gps_gives_the_unit_the_axes_and_the_origin(rng):
    enu = rng.uniform(-60, 60, (12, 3)) * [1, 1, 0.1]
    noise = rng.normal(0, 1.0, enu.shape)
    poses, places, scale = model_and_places(rng, enu)
    poses[:, :3, 3] += noise @ np.linalg.qr(rng.normal(size=(3, 3)))[0] / scale
    places[3] = None
    wrong = GeographicOrigin(PLACE.latitude_deg + 0.01, PLACE.longitude_deg, 0.0)
    places[5] = dataclasses.astuple(wrong)  # a kilometre off
    found = metric_scale.by_gps(places, poses)
    assert found.world_from_model.scale == pytest.approx(scale, rel=0.1)
    assert found.source.source == "gps" and 0 < found.source.deviation < 0.1
    assert "10 of 11 photographs" in found.said and "East, North, Up" in found.said
    earth = earth_from_enu(found.geographic_origin)
    world = found.world_from_model.of_poses(poses)[:, :3, 3] @ earth[:3, :3].T + earth[:3, 3]
    true = earth_from_enu(PLACE)
    expected = enu @ true[:3, :3].T + true[:3, 3]
    assert np.linalg.norm(world - expected, axis=1).max() < 8


def test_gps_on_a_line_gives_no_axes(rng):
    enu = np.outer(np.linspace(0, 100, 9), [0.8, 0.6, 0.0])
    poses, places, scale = model_and_places(rng, enu)
    noise = rng.normal(0, 0.5, (9, 3))
    poses[:, :3, 3] += noise / scale
    found = metric_scale.by_gps(places, poses)
    assert found.world_from_model.scale == pytest.approx(scale, rel=0.1)
    assert found.geographic_origin is None
    assert "on one line" in found.said


@pytest.mark.parametrize("count, extent", [(3, 50.0), (12, 1.0)], ids=["few", "one desk"])
def test_gps_that_tells_too_little_is_not_taken(rng, count, extent):
    poses, places, scale = model_and_places(rng, rng.uniform(-extent, extent, (count, 3)))
    poses[:, :3, 3] += rng.normal(0, 2.0, (count, 3)) / scale
    assert metric_scale.by_gps(places, poses) is None


def test_a_distance_gives_the_unit(rng):
    centres = {"a.jpg": rng.normal(size=3), "b.jpg": rng.normal(size=3)}
    found = metric_scale.by_distance(Distance.parse(("a.jpg", "b.jpg", "2.5")), centres)
    length = np.linalg.norm(centres["a.jpg"] - centres["b.jpg"])
    assert found.world_from_model.scale * length == pytest.approx(2.5)
    with pytest.raises(UsageError, match="c.jpg has no pose; choose another photograph"):
        metric_scale.by_distance(Distance("a.jpg", "c.jpg", 1.0), centres)


def test_the_network_s_lengths_give_the_unit(rng):
    """Its features are the true poses; the map's have another unit, and some are wrong."""
    frames = oracle_frames(rng, 10)
    network, scale = OracleNetwork(), rng.uniform(0.1, 10)
    encoded = encode_frames(frames, network)
    moved = frames.world_from_cam.copy()
    moved[:, :3, 3] /= scale
    moved[0, :3, 3] += rng.normal(0, 1, 3)
    scene_map = SceneMap.from_images(network, dataclasses.replace(encoded, world_from_cam=moved))
    others = [[k for k in range(10) if k != i] for i in range(10)]
    found = metric_scale.by_network(scene_map, others)
    assert found.world_from_model.scale == pytest.approx(scale, rel=1e-3)
    assert found.source.source == "network" and found.source.deviation >= 0
    with pytest.raises(UsageError, match="give one by --distance=a.jpg,b.jpg,METRES"):
        metric_scale.by_network(scene_map, [[] for _ in range(10)])
