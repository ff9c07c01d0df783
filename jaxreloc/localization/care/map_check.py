"""What is wrong with the images of a map, found by localizing each in the map without itself.

An image's error is how far its pose lies from where the others see it, as an angle:

    e^2 = |rotation|^2 + (|centre| / depth)^2,       depth: the median of what its neighbours see.

Its pose is wrong if e is beyond FLOOR and beyond LIMIT times its deviation by the covariance, or
more where the whole map is less precise than the covariances say. Since neighbours with wrong poses
mislead, those under suspicion, and those that were not found, are localized again without the
suspects.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.images import sharpness
from jaxreloc.localization.care.kept_pictures import kept_picture
from jaxreloc.localization.care.leave_one_out import KeptLocalizer
from jaxreloc.localization.care.scene_depth import SceneDepth
from jaxreloc.localization.map.encoding import Progress
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.query_state import Localization
from jaxreloc.usage import UsageError

MIN_IMAGES = 4
FLOOR = np.deg2rad(1.0)  # of the error of a wrong pose
LIMIT = 6.0  # deviations
THIN = 2  # images that agree, or fewer
BLURRED = 0.55  # of the sharpness of the images that show the same
SMALLEST_SHARPNESS = 1e-3
KINDS = ("wrong pose", "unconnected", "apart", "thin coverage", "blurred")


class Problem(NamedTuple):
    """What is wrong with an image, of KINDS, and what to do about it."""

    kind: str
    name: str
    advice: str


@dataclasses.dataclass(frozen=True)
class PoseError:
    """How far the recorded pose of an image lies from where the others see it.

    Attributes:
      rotation: radians.
      distance: between the centres, in the unit of the map.
      angle: e of the module.
      deviation: of `angle`, by the covariance.
    """

    rotation: float
    distance: float
    angle: float
    deviation: float


@dataclasses.dataclass(frozen=True)
class MapCheck:
    """The problems of a map in the order of KINDS, of `num_images` that were looked at."""

    num_images: int
    problems: tuple[Problem, ...]

    def of_kind(self, kind: str) -> tuple[Problem, ...]:
        return tuple(x for x in self.problems if x.kind == kind)

    def __str__(self) -> str:
        """In one line."""
        counts = ", ".join(f"{len(self.of_kind(kind))} {kind}" for kind in KINDS)
        return f"{self.num_images} images checked: {counts}"


def check_map(scene_map: SceneMap, progress: Progress = lambda images: images) -> MapCheck:
    """Localizes every image in the map without itself and judges what comes of it.

    Args:
      progress: wraps the iteration over the images, as tqdm does.

    Raises:
      UsageError: there are too few images.
    """
    if len(scene_map) < MIN_IMAGES:
        raise UsageError(
            f"a map of {len(scene_map)} images cannot be checked; give it {MIN_IMAGES} or more"
        )
    localizer = KeptLocalizer(scene_map)
    found = list(localizer.localize_all(range(len(scene_map)), progress=progress))
    wrong = _wrong_poses(localizer, found, progress)
    names, problems = scene_map.names, []
    for row, error in sorted(wrong.items(), key=lambda item: -item[1].angle):
        problems.append(
            Problem(
                "wrong pose",
                names[row],
                f"the others see it {error.distance:.3g} away from its pose and turned by "
                f"{np.rad2deg(error.rotation):.1f} degrees; mend the pose, or remove the image",
            )
        )
    unconnected = [row for row, x in enumerate(found) if not x.success]
    for row in unconnected:
        other = names[found[row].neighbors[0]]
        advice = f"no other image shows enough of it; take pictures between it and {other}"
        problems.append(Problem("unconnected", names[row], advice))
    problems += _apart(scene_map, found, unconnected)
    for row, x in enumerate(found):
        count = int((x.location_inliers & x.success).sum())
        if x.success and row not in wrong and count <= THIN:
            advice = f"only {count} other images show what it shows; take more pictures around it"
            problems.append(Problem("thin coverage", names[row], advice))
    for row, share in _blurred(scene_map, found):
        advice = f"{share:.0%} as sharp as the images that show the same; take it again"
        problems.append(Problem("blurred", names[row], advice))
    return MapCheck(len(scene_map), tuple(problems))


def pose_error(scene_map: SceneMap, row: int, found: Localization, depth: float) -> PoseError:
    """Of an image that was localized; `depth` is that of what its neighbours see."""
    off = inverse(scene_map.world_from_db[row]) @ found.world_from_query
    rotation = float(np.linalg.norm(cv2.Rodrigues(off[:3, :3])[0]))
    distance = float(np.linalg.norm(off[:3, 3]))
    variance = np.trace(found.covariance[:3, :3]) + np.trace(found.covariance[3:, 3:]) / depth**2
    return PoseError(
        rotation, distance, float(np.hypot(rotation, distance / depth)), float(np.sqrt(variance))
    )


def _wrong_poses(
    localizer: KeptLocalizer, found: list[Localization], progress: Progress
) -> dict[int, PoseError]:
    """The errors of the images whose poses are wrong, by their rows.

    In `found` what was localized again takes the place of what it was before.
    """
    scene_map = localizer.scene_map
    depth_of = SceneDepth(scene_map)

    def error(row: int, x: Localization) -> PoseError:
        return pose_error(scene_map, row, x, depth_of(x.neighbors))

    errors = {row: error(row, x) for row, x in enumerate(found) if x.success}
    if not errors:
        return {}
    precision = max(1.0, float(np.median([x.angle / x.deviation for x in errors.values()])))

    def is_wrong(x: PoseError) -> bool:
        return x.angle > max(FLOOR, LIMIT * precision * x.deviation)

    suspects = [row for row, x in errors.items() if is_wrong(x)]
    if not suspects:
        return {}
    again = [*suspects, *(row for row, x in enumerate(found) if not x.success)]
    for row, x in zip(again, localizer.localize_all(again, suspects, progress), strict=True):
        found[row] = x
    confirmed = {row: error(row, found[row]) for row in again if found[row].success}
    return {row: x for row, x in confirmed.items() if is_wrong(x)}


def _apart(
    scene_map: SceneMap, found: Sequence[Localization], unconnected: Collection[int]
) -> Iterator[Problem]:
    """A problem for each group of images that are connected, but not with the largest group."""
    group = list(range(len(found)))

    def root(row: int) -> int:
        while group[row] != row:
            row = group[row]
        return row

    for row, x in enumerate(found):
        for other in x.neighbors[x.location_inliers & x.success]:
            group[root(int(other))] = root(row)
    members: dict[int, list[int]] = {}
    for row in range(len(found)):
        members.setdefault(root(row), []).append(row)
    largest, *others = sorted(members.values(), key=len, reverse=True)
    descriptors = np.asarray(scene_map.descriptors)
    for rows in others:
        if set(rows) <= set(unconnected):
            continue
        similarity = descriptors[rows] @ descriptors[largest].T
        here, there = np.unravel_index(similarity.argmax(), similarity.shape)
        yield Problem(
            "apart",
            scene_map.names[rows[0]],
            f"a group of {len(rows)} images that nothing connects with the rest; take pictures "
            f"between {scene_map.names[rows[here]]} and {scene_map.names[largest[there]]}",
        )


def _blurred(
    scene_map: SceneMap, found: Sequence[Localization]
) -> Iterator[tuple[int, float]]:
    """Images far less sharp than those that show the same, and how sharp, relatively."""
    @functools.cache
    def sharp(row: int) -> float:
        return sharpness(kept_picture(scene_map, row)[0]) + SMALLEST_SHARPNESS

    for row, x in enumerate(found):
        others = x.neighbors[x.location_inliers & x.success]
        if len(others):
            share = sharp(row) / np.median([sharp(int(other)) for other in others])
            if share < BLURRED:
                yield row, float(share)
