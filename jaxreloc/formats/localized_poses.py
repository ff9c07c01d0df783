"""What is known of a localized image, and one line for it.

  tum      timestamp tx ty tz qx qy qz qw       world_from_cam; the image's name for a timestamp
  7scenes  name qw qx qy qz tx ty tz            cam_from_world, as hloc writes it, too
  jsonl    an object a line with all that is known, world_from_cam

The text formats have no place for a failure: it is a comment, `# name: not localized`. Formats of
several files or of one that is no list of lines are in `writers.answer_formats`.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.rigid_arrays import inverse, quaternion_wxyz

WHERE_KNOWN = ("scale_deviation", "focal_px", "focal_deviation")  # fields that may be absent
CAMERA_FIELDS = ("fx", "fy", "cx", "cy", "width", "height")


@dataclasses.dataclass(frozen=True)
class LocalizedPose:
    """What is written of one image; the numbers mean nothing unless `success`."""

    name: str
    success: bool
    world_from_cam: Float64[np.ndarray, "4 4"]
    confidence: float  # from 0 to 1: how likely the pose is right (docs/localization.md)
    num_inliers: int  # of the related database images, for the location
    num_neighbors: int
    covariance: Float64[np.ndarray, "6 6"]  # of (rotation vector, centre), world axes
    total_ms: float
    turn_deg: int = 0  # counterclockwise: how the picture was turned to be localized
    scale_source: str = "database_poses"  # what metres come from; see `Localization`
    reason: str = ""  # why there is no pose
    focal_factor: float = 1.0  # times the given focal length suits the matches better
    camera: Camera | None = None  # a pinhole camera, of the upright picture
    scale_deviation: float | None = None  # of every length, relative
    focal_px: float | None = None  # where it was found with the pose,
    focal_deviation: float | None = None  # and its relative deviation


def tum_line(pose: LocalizedPose) -> str:
    """`name tx ty tz qx qy qz qw`, `world_from_cam`."""
    if not pose.success:
        return failure_line(pose)
    w, x, y, z = quaternion_wxyz(pose.world_from_cam)
    return " ".join([pose.name, *map(_digits, [*pose.world_from_cam[:3, 3], x, y, z, w])])


def cam_from_world_line(pose: LocalizedPose) -> str:
    """`name qw qx qy qz tx ty tz`, `cam_from_world`."""
    if not pose.success:
        return failure_line(pose)
    cam_from_world = inverse(pose.world_from_cam)
    values = [*quaternion_wxyz(cam_from_world), *cam_from_world[:3, 3]]
    return " ".join([pose.name, *map(_digits, values)])


def json_line(pose: LocalizedPose) -> str:
    """`json_fields` as a line."""
    return json.dumps(json_fields(pose), allow_nan=False)


def json_fields(pose: LocalizedPose) -> dict[str, Any]:
    """Every field of `LocalizedPose`; of a failure the name, the time and the reason."""
    fields = {"name": pose.name, "success": pose.success, "total_ms": round(pose.total_ms, 3)}
    if pose.success:
        fields |= {
            "world_from_cam": pose.world_from_cam.tolist(),
            "confidence": pose.confidence,
            "num_inliers": pose.num_inliers,
            "num_neighbors": pose.num_neighbors,
            "covariance_world": pose.covariance.tolist(),
            "covariance_camera": covariance_in_camera(pose).tolist(),
            "scale_source": pose.scale_source,
            "turn_deg": pose.turn_deg,
            "focal_factor": pose.focal_factor,
        }
        if pose.camera is not None:
            fields["camera"] = {name: getattr(pose.camera, name) for name in CAMERA_FIELDS}
        for name in WHERE_KNOWN:
            if getattr(pose, name) is not None:
                fields[name] = getattr(pose, name)
    elif pose.reason:
        fields["reason"] = pose.reason
    return fields


def from_json_fields(fields: Mapping[str, Any]) -> LocalizedPose:
    """What `json_fields` was made of; a failure has a pose of NaN and no confidence.

    Raises:
      ValueError: a field is missing, has another type, or is too large a number.
    """
    try:
        common = {
            "name": str(fields["name"]),
            "success": bool(fields["success"]),
            "total_ms": float(fields["total_ms"]),
        }
        if not common["success"]:
            nothing = {"world_from_cam": np.full((4, 4), np.nan), "confidence": 0.0}
            nothing |= {"num_inliers": 0, "num_neighbors": 0, "covariance": np.full((6, 6), np.nan)}
            return LocalizedPose(**common, **nothing, reason=str(fields.get("reason", "")))
        return LocalizedPose(
            **common,
            world_from_cam=np.reshape(np.array(fields["world_from_cam"], np.float64), (4, 4)),
            confidence=float(fields["confidence"]),
            num_inliers=int(fields["num_inliers"]),
            num_neighbors=int(fields["num_neighbors"]),
            covariance=np.reshape(np.array(fields["covariance_world"], np.float64), (6, 6)),
            scale_source=str(fields["scale_source"]),
            **{name: fields.get(name) for name in WHERE_KNOWN},
            turn_deg=int(fields["turn_deg"]),
            focal_factor=float(fields["focal_factor"]),
            camera=_camera(fields.get("camera")),
        )
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"no answer of a localizer ({error!r})") from error


def parse_json_line(line: str) -> LocalizedPose:
    """What `json_line` was made of.

    Raises:
      ValueError: it is no such line.
    """
    try:
        fields = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError(f"not an answer: {line[:80]!r}")
    return from_json_fields(fields)


def covariance_in_camera(pose: LocalizedPose) -> Float64[np.ndarray, "6 6"]:
    """In the camera's axes: the true pose is R exp(w), centre + R c."""
    turn = np.kron(np.eye(2), pose.world_from_cam[:3, :3].T)
    return turn @ pose.covariance @ turn.T


LINE_FORMATS: dict[str, Callable[[LocalizedPose], str]] = {
    "tum": tum_line,
    "7scenes": cam_from_world_line,
    "jsonl": json_line,
}


def failure_line(pose: LocalizedPose) -> str:
    """A comment."""
    return f"# {pose.name}: not localized"


def _camera(fields: Mapping[str, Any] | None) -> Camera | None:
    if fields is None:
        return None
    fx, fy, cx, cy, width, height = (float(fields[name]) for name in CAMERA_FIELDS)
    return Camera(fx, fy, cx, cy, int(width), int(height))


def _digits(value: float) -> str:
    return repr(float(value))
