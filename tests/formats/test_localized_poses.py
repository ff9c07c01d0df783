import dataclasses
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.localized_poses import (
    LINE_FORMATS,
    LocalizedPose,
    from_json_fields,
    parse_json_line,
)
from jaxreloc.formats.readers.pose_list import read_evaluation_poses


@pytest.fixture
def pose(rng):
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = Rotation.random(rng=rng).as_matrix()
    world_from_cam[:3, 3] = rng.normal(size=3)
    root = rng.normal(size=(6, 6))
    return LocalizedPose("a/1.png", True, world_from_cam, 0.75, 4, 5, root @ root.T, 20.0)


def test_tum_is_world_from_cam_with_the_scalar_last(pose):
    name, *values = LINE_FORMATS["tum"](pose).split()
    values = np.array(values, float)
    assert name == "a/1.png"
    np.testing.assert_allclose(values[:3], pose.world_from_cam[:3, 3])
    rotation = Rotation.from_quat(values[3:]).as_matrix()
    np.testing.assert_allclose(rotation, pose.world_from_cam[:3, :3], atol=1e-12)


def test_7scenes_is_read_back_by_the_evaluation_reader(pose, tmp_path):
    (tmp_path / "poses.txt").write_text(LINE_FORMATS["7scenes"](pose) + "\n")
    read = read_evaluation_poses(tmp_path / "poses.txt")
    assert read.names == ("a/1.png",)
    np.testing.assert_allclose(read.world_from_cam[0], pose.world_from_cam, atol=1e-12)


def test_json_holds_the_uncertainty(pose):
    fields = json.loads(LINE_FORMATS["jsonl"](pose))
    np.testing.assert_array_equal(fields["world_from_cam"], pose.world_from_cam)
    assert fields["confidence"] == 0.75
    np.testing.assert_array_equal(fields["covariance_world"], pose.covariance)
    assert (fields["scale_source"], fields["focal_factor"]) == ("database_poses", 1.0)
    assert (fields["num_inliers"], fields["num_neighbors"], fields["success"]) == (4, 5, True)
    assert fields["turn_deg"] == 0
    turned = dataclasses.replace(pose, turn_deg=270)
    assert json.loads(LINE_FORMATS["jsonl"](turned))["turn_deg"] == 270


@pytest.mark.parametrize("name", sorted(LINE_FORMATS))
def test_a_failure_is_never_a_pose(pose, name):
    line = LINE_FORMATS[name](dataclasses.replace(pose, success=False))
    if name == "jsonl":
        assert json.loads(line) == {"name": "a/1.png", "success": False, "total_ms": 20.0}
    else:
        assert line == "# a/1.png: not localized"


def test_a_failure_says_why(pose):
    refused = dataclasses.replace(pose, success=False, reason="too few matches agree")
    assert json.loads(LINE_FORMATS["jsonl"](refused))["reason"] == "too few matches agree"


def test_both_forms_of_the_covariance_are_of_the_same_errors(pose, rng):
    """A small error drawn in world axes has the same probability in the camera's."""
    fields = json.loads(LINE_FORMATS["jsonl"](pose))
    world, camera = (np.array(fields[f"covariance_{axes}"]) for axes in ("world", "camera"))
    rotation = pose.world_from_cam[:3, :3]
    error = rng.normal(size=6)
    turned = np.concatenate([rotation.T @ error[:3], rotation.T @ error[3:]])
    in_world = error @ np.linalg.solve(world, error)
    assert turned @ np.linalg.solve(camera, turned) == pytest.approx(in_world)
    # exp(w) R = R exp(R^T w): the rotation vector of one form is the other's, turned.
    small = 1e-4 * error[:3]
    left = Rotation.from_rotvec(small).as_matrix() @ rotation
    right = rotation @ Rotation.from_rotvec(rotation.T @ small).as_matrix()
    np.testing.assert_allclose(left, right, atol=1e-12)


def test_json_is_read_back_to_the_last_bit(pose):
    camera = Camera(50.5, 51.25, 31.5, 23.75, 64, 48)
    given = dataclasses.replace(pose, turn_deg=90, focal_factor=1.25, camera=camera)
    read = from_json_fields(json.loads(LINE_FORMATS["jsonl"](given)))
    for field in dataclasses.fields(given):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(given, field.name))
    failed = dataclasses.replace(pose, success=False, reason="too few matches agree")
    read = from_json_fields(json.loads(LINE_FORMATS["jsonl"](failed)))
    assert (read.success, read.confidence, read.reason) == (False, 0.0, failed.reason)
    assert np.isnan(read.world_from_cam).all() and np.isnan(read.covariance).all()


@pytest.mark.parametrize("line", ["", "[]", "{}", "[" * 100_000, '{"name": 1}', "1", "NaN"])
def test_a_line_that_is_no_answer(line):
    with pytest.raises(ValueError):
        parse_json_line(line)


@pytest.mark.parametrize("name", ["total_ms", "confidence", "num_inliers", "turn_deg"])
@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_number_beyond_all_bounds_is_no_answer(pose, name, value):
    fields = json.loads(LINE_FORMATS["jsonl"](pose)) | {name: value}
    if name in ("num_inliers", "turn_deg"):
        fields[name] = float("inf")  # as JSON's 1e999 is read
    with pytest.raises(ValueError):
        from_json_fields(fields)


@pytest.mark.parametrize("name", ["name", "success", "total_ms", "confidence", "covariance_world"])
def test_json_without_a_field_is_no_answer(pose, name):
    fields = json.loads(LINE_FORMATS["jsonl"](pose))
    for wrong in (fields | {name: None}, {k: v for k, v in fields.items() if k != name}):
        if (name, wrong.get(name, 0)) not in [("name", None), ("success", None)]:
            with pytest.raises(ValueError):
                from_json_fields(wrong)
