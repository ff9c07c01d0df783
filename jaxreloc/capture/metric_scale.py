"""The unit and the axes of a model that structure from motion has made, which has none.

In the order of trust: a distance that the user has measured, the places that EXIF has by GPS, the
lengths of baselines that the network sees.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float, Float64, Int

from jaxreloc.capture.sfm.quiet_colmap import pycolmap
from jaxreloc.formats.common.geodesy import GeographicOrigin, earth_from_enu
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.localization.care.map_alignment import Similarity
from jaxreloc.localization.map.map_manifest import MapScale
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError

GPS_DEVIATION_M = 5.0
FEWEST_PLACES = 4
FEWEST_LENGTHS = 3
# A fit is taken if the cameras are spread by so many times its residual; and if also along a second
# direction, their axes are East, North, Up.
SPREAD = 3.0
PARTNERS = 4  # of each image, whose baselines the network sees
MOST_IMAGES = 60  # that are asked
SAME_DIRECTION = 0.9  # cosine
PER_NORMAL = 1.4826  # from a median absolute deviation


@dataclasses.dataclass(frozen=True)
class Distance:
    """What a user has measured between the places of two photographs."""

    a: str
    b: str
    metres: float

    @classmethod
    def parse(cls, parts: Sequence[str]) -> "Distance":
        """From `a.jpg,b.jpg,METRES`.

        Raises:
          UsageError: it is not that.
        """
        try:
            a, b, metres = *parts[:2], float(parts[2])
        except (IndexError, ValueError):
            a = b = metres = ""
        if len(parts) != 3 or a == b or not 0 < float(metres) < np.inf:
            raise UsageError(
                f"--distance={','.join(parts)}: give two photographs and how many metres apart "
                "they were taken, such as a.jpg,b.jpg,2.5"
            )
        return cls(a, b, metres)


@dataclasses.dataclass(frozen=True)
class Metric:
    """What takes the model to metres, and where that is from."""

    world_from_model: Similarity
    source: MapScale
    said: str
    geographic_origin: GeographicOrigin | None = None


def by_distance(
    distance: Distance, centres: Mapping[str, Float[np.ndarray, "3"]]
) -> Metric:
    """The unit that makes a measured distance right.

    Args:
      centres: of the cameras in the model, by name.

    Raises:
      UsageError: a photograph has no pose, or both have the same.
    """
    for name in (distance.a, distance.b):
        if name not in centres:
            raise UsageError(
                f"--distance: {name} has no pose; choose another photograph, such as "
                f"{next(iter(centres))}"
            )
    length = float(np.linalg.norm(centres[distance.a] - centres[distance.b]))
    if length == 0:
        raise UsageError(
            f"--distance: {distance.a} and {distance.b} are at one place; choose others"
        )
    said = f"scale: {distance.a} and {distance.b} are {distance.metres:g} m apart, as given"
    return Metric(Similarity(distance.metres / length), MapScale("distance", None), said)


def by_gps(
    places: Sequence[tuple[float, float, float] | None],
    model_from_cam: Float64[np.ndarray, "n 4 4"],
) -> Metric | None:
    """The similarity that brings the cameras to their places by GPS; None if that tells too little.

    The axes are East, North, Up at the first place, if the places do not lie on one line.

    Args:
      places: latitude, longitude and height of each, by EXIF.
    """
    with_place = [i for i, place in enumerate(places) if place is not None]
    if len(with_place) < FEWEST_PLACES:
        return None
    origin = GeographicOrigin(*places[with_place[0]])
    enu_from_earth = inverse(earth_from_enu(origin))
    earth = np.array([earth_from_enu(GeographicOrigin(*places[i]))[:3, 3] for i in with_place])
    target = earth @ enu_from_earth[:3, :3].T + enu_from_earth[:3, 3]
    centres = model_from_cam[with_place, :3, 3]
    options = pycolmap.RANSACOptions(max_error=3 * GPS_DEVIATION_M, random_seed=0)
    robust = pycolmap.estimate_sim3d_robust(centres, target, options)
    if robust is None or robust["num_inliers"] < FEWEST_PLACES:
        return None
    used = robust["inlier_mask"]
    fit = pycolmap.estimate_sim3d(centres[used], target[used])
    if fit is None:
        return None
    rotation = fit.rotation.matrix()
    left = target[used] - fit.scale * centres[used] @ rotation.T - fit.translation
    residual = float(np.sqrt(np.mean(np.sum(left**2, axis=1))))
    spread = np.linalg.svd(target[used] - target[used].mean(axis=0), compute_uv=False)
    spread = spread / np.sqrt(np.sum(used))
    if not (fit.scale > 0 and spread[0] > SPREAD * residual):
        return None
    deviation = residual / (np.linalg.norm(spread) * np.sqrt(np.sum(used)))
    source = MapScale("gps", float(deviation))
    said = (
        f"scale: by GPS of {np.sum(used)} of {len(with_place)} photographs that have it, which fit "
        f"to {residual:.2g} m; lengths are right to {deviation:.1%}"
    )
    if spread[1] <= SPREAD * residual:
        said = f"{said}; they lie on one line, which gives no axes"
        return Metric(Similarity(fit.scale), source, said)
    said = f"{said}; the axes are East, North, Up at {origin.latitude_deg:.6f}, "
    said += f"{origin.longitude_deg:.6f}"
    return Metric(Similarity(fit.scale, rotation, fit.translation), source, said, origin)


def by_network(scene_map: SceneMap, partners: Sequence[Sequence[int]]) -> Metric:
    """The unit in which the baselines of the map are as long as its network sees them.

    It is the median ratio of the pairs whose direction the network sees right. The deviation is
    that of one pair, since the errors of one scene are much alike, and no less than what the
    network's lengths have elsewhere.

    Args:
      scene_map: with the poses of the model.
      partners: the images that show most of what each image shows.

    Raises:
      UsageError: the network relates too few of them.
    """
    ratios = []
    for image in scene_map.some_images(MOST_IMAGES):
        others = np.array(list(partners[image])[:PARTNERS], int)
        if not len(others):
            continue
        ratios.extend(_length_ratios(scene_map, image, others))
    if len(ratios) < FEWEST_LENGTHS:
        raise UsageError(
            "the network sees the length of too few baselines between the photographs; give one by "
            "--distance=a.jpg,b.jpg,METRES"
        )
    logs = np.log(ratios)
    middle = np.median(logs)
    spread = PER_NORMAL * np.median(np.abs(logs - middle))
    spread = max(spread, scene_map.network.fusion_config.location.length_std or 0.0)
    deviation = float(np.expm1(spread))
    said = (
        f"scale: by the network, of {len(ratios)} baselines; lengths may be off by "
        f"{deviation:.0%}: --distance=a.jpg,b.jpg,METRES gives them exactly"
    )
    return Metric(Similarity(float(np.exp(middle))), MapScale("network", deviation), said)


def _length_ratios(
    scene_map: SceneMap, image: int, others: Int[np.ndarray, "N"]
) -> list[float]:
    """Of the network's baselines to the map's."""
    padded = np.resize(others, PARTNERS)  # of one shape, so that it compiles once
    db_features, db_intrinsics = scene_map.neighbor_features(padded)
    features, intrinsics = scene_map.neighbor_features(np.array([image]))
    related = jax.device_get(
        scene_map.network.relate(db_features, db_intrinsics, features, intrinsics)
    )
    true = inverse(scene_map.world_from_db[padded]) @ scene_map.world_from_db[image]
    seen = np.asarray(related.db_from_query.wxyz_xyz)[: len(others), 4:]
    true, valid = true[: len(others), :3, 3], np.asarray(related.valid)[: len(others)]
    lengths = np.linalg.norm(seen, axis=1), np.linalg.norm(true, axis=1)
    alike = np.sum(seen * true, axis=1) > SAME_DIRECTION * lengths[0] * lengths[1]
    used = valid & alike & (lengths[0] > 0) & (lengths[1] > 0)
    return (lengths[0][used] / lengths[1][used]).tolist()
