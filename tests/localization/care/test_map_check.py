"""What is spoilt on purpose is found, and nothing else."""

import dataclasses
import types

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.images import encode_jpeg
from jaxreloc.localization.care import map_check
from jaxreloc.localization.care.leave_one_out import KeptLocalizer
from jaxreloc.localization.care.map_check import check_map
from jaxreloc.localization.map.pictures import Pictures
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.care.known_maps import SavedOracle, angle, encoded, in_memory
from tests.localization.fakes import _frames_of, looking_frames

COUNT = 30


@pytest.fixture
def images(rng):
    return encoded(rng, looking_frames(rng, COUNT))


def names_of(checked, kind):
    return {problem.name for problem in checked.of_kind(kind)}


def test_an_image_is_found_without_itself(rng, images):
    scene_map = in_memory(rng, images)
    localizer = KeptLocalizer(scene_map)
    for row in rng.choice(COUNT, 3, replace=False):
        found = localizer.localize(int(row))
        assert found.success and row not in found.neighbors
        assert angle(found.world_from_query, images.world_from_cam[row], 8.0) < 0.01
        excluded = found.neighbors[:3]
        assert not set(localizer.localize(int(row), excluded).neighbors) & set(excluded)


def test_wrong_poses_are_found_and_no_others(rng, images):
    poses = images.world_from_cam.copy()
    turned, moved, one, other = (int(row) for row in rng.choice(COUNT, 4, replace=False))
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(np.deg2rad(6) * axis / np.linalg.norm(axis)).as_matrix()
    poses[turned, :3, :3] = turn @ poses[turned, :3, :3]
    offset = rng.normal(size=3)
    poses[moved, :3, 3] += offset / np.linalg.norm(offset)
    poses[[one, other]] = poses[[other, one]]
    checked = check_map(in_memory(rng, dataclasses.replace(images, world_from_cam=poses)))
    spoilt = {turned, moved}
    if angle(poses[one], poses[other], 8.0) > 0.05:  # else they hardly changed
        spoilt |= {one, other}
    called = names_of(checked, "wrong pose")
    expected = {images.names[row] for row in spoilt}
    assert expected <= called <= expected | {images.names[one], images.names[other]}
    advice = {problem.name: problem.advice for problem in checked.problems}
    assert "turned by 6." in advice[images.names[turned]] or "5.9" in advice[images.names[turned]]
    assert f"{len(called)} wrong pose" in str(checked)


def test_a_whole_map_has_no_problem(rng, images):
    checked = check_map(in_memory(rng, images))
    for kind in ("wrong pose", "unconnected", "apart", "thin coverage"):
        assert checked.of_kind(kind) == (), kind
    assert checked.num_images == COUNT and "0 wrong pose" in str(checked)


def turned_about(frames_rng, count, turn):
    """Cameras that look another way; `_frames_of` takes tangents."""
    tangent = frames_rng.normal(size=(count, 6)) * np.array([0.5, 0.5, 0.5, 0.1, 0.1, 0.1])
    tangent[:, 3:] += turn
    return _frames_of(np.float32(tangent), "room")


def test_images_that_nothing_connects_are_told(rng):
    ahead = turned_about(rng, 14, np.zeros(3))
    behind = turned_about(rng, 6, np.array([0, np.pi, 0]))
    alone = turned_about(rng, 1, np.array([0, np.pi / 2, 0]))
    parts = [encoded(rng, frames) for frames in (ahead, behind, alone)]
    names = [f"{group}{i}" for group, x in zip("abc", parts) for i in range(len(x))]
    joined = dataclasses.replace(
        parts[0],
        names=tuple(names),
        features=tuple(np.concatenate(x) for x in zip(*(part.features for part in parts))),
        pictures=[x for part in parts for x in part.pictures],
        **{
            field: np.concatenate([getattr(part, field) for part in parts])
            for field in (
                "world_from_cam", "intrinsics", "image_sizes", "network_intrinsics", "descriptors"
            )
        },
    )
    checked = check_map(in_memory(rng, joined))
    assert names_of(checked, "unconnected") == {"c0"}
    (group,) = checked.of_kind("apart")
    assert group.name.startswith("b") and "a group of 6 images" in group.advice
    assert names_of(checked, "wrong pose") == set()


def test_a_blurred_picture_is_told_from_those_that_show_the_same(rng, images):
    scene = cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), (640, 480))
    scene = cv2.add(scene, rng.integers(0, 40, scene.shape, np.uint8))
    views = [np.ascontiguousarray(scene[i : i + 240, i : i + 320]) for i in range(0, 60, 10)]
    views[2] = cv2.GaussianBlur(views[2], (0, 0), 3)
    canvas = [cv2.copyMakeBorder(view, 8, 8, 0, 0, cv2.BORDER_CONSTANT) for view in views]
    K = np.array([[300, 0, 160], [0, 300, 120], [0, 0, 1.0]])
    on_canvas = K + np.array([[0, 0, 0], [0, 0, 8], [0, 0, 0]])
    scene_map = dataclasses.replace(
        in_memory(rng, images),
        pictures=Pictures([encode_jpeg(view, 90) for view in canvas]),
        intrinsics=np.tile(K, (6, 1, 1)),
        image_sizes=np.tile([320, 240], (6, 1)),
        network_intrinsics=np.tile(on_canvas, (6, 1, 1)),
    )
    others = [np.array([j for j in range(6) if j != i]) for i in range(6)]
    found = [
        types.SimpleNamespace(neighbors=x, location_inliers=np.ones(5, bool), success=True)
        for x in others
    ]
    ((row, share),) = map_check._blurred(scene_map, found)
    assert row == 2 and 0 < share < 0.3


def test_a_map_of_few_images_is_refused(rng):
    with pytest.raises(UsageError, match="a map of 3 images cannot be checked; give it 4"):
        check_map(SceneMap.from_images(SavedOracle(rng), encoded(rng, looking_frames(rng, 3))))
