"""Pictures of matches that hold and of ones that do not, in held-out rooms.

  python -m benchmarks.accuracy.match_pictures --library=FOLDER [--cache=FOLDER] [--rooms=6]
      [--out=FILE]

Of all pairs of a query and a retrieved image, one each: a typical one, the widest baseline and the
largest turn that are still right (5 deg in rotation and direction), the one with most support that
is wrong (20 deg), and a typical one that is refused. The database image is on the left. Matches
that agree with the estimated pose are green, the others red; only every third is drawn.
"""

import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses

import cv2
import jax
import numpy as np
from absl import app, flags

from benchmarks.accuracy import held_out
from benchmarks.angles import between_deg, rotation_deg
from jaxreloc import files
from jaxreloc.evaluation.report.matchers import to_pixels
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.networks.match_relations import pose_of_matches
from jaxreloc.training.inputs.match_making import encode_scene

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_CACHE = flags.DEFINE_string("cache", None, "Folder where rendered rooms are kept.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many test rooms.")
_OUT = flags.DEFINE_string("out", "docs/experiments/matches.jpg", "The picture.")

CANVAS = (384, 512)
RIGHT_DEG, WRONG_DEG = 5.0, 20.0
MIN_BASELINE_M = 0.2
DRAWN = 3
TILE_HEIGHT, TILE_WIDTH = 240, 640
GREEN, RED, WHITE = (60, 190, 60), (210, 60, 60), (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class PairPicture:
    """A matched pair with its errors, degrees; `turn_deg` and `baseline_m` are the true ones."""

    db_image: np.ndarray
    query_image: np.ndarray
    db_px: np.ndarray
    query_px: np.ndarray
    inliers: np.ndarray
    success: bool
    rotation_deg: float
    direction_deg: float
    turn_deg: float
    baseline_m: float

    @property
    def support(self) -> float:
        return float(np.mean(self.inliers))

    @property
    def worst_deg(self) -> float:
        """Of rotation and direction; cameras next to each other have no direction to speak of."""
        apart = self.baseline_m > MIN_BASELINE_M
        return max(self.rotation_deg, self.direction_deg) if apart else self.rotation_deg


def pairs_of_room(database: PosedFrames, queries: PosedFrames) -> list[PairPicture]:
    """Every query with each of its retrieved images."""
    network = held_out.matcher(CANVAS)
    db, query = encode_scene(database, network), encode_scene(queries, network)
    similarity = query.features.descriptor @ db.features.descriptor.T
    pictures = []
    for q in range(len(query)):
        nearest = np.argsort(-similarity[q])[: held_out.NEIGHBOURS]
        them, one = db.select(nearest), query.select(np.array([q]))
        matches = network.match(them.features, them.intrinsics, one.features, one.intrinsics)
        estimate = pose_of_matches(matches, them.intrinsics, one.intrinsics)
        found = np.asarray(estimate.db_from_query.as_matrix(), np.float64)
        matches, estimate = jax.device_get((matches, estimate))
        for i, d in enumerate(nearest):
            true = np.linalg.inv(database.world_from_cam[d]) @ queries.world_from_cam[q]
            pictures.append(
                PairPicture(
                    db_image=database.images[d],
                    query_image=queries.images[q],
                    db_px=to_pixels(matches.x_db[i], database.intrinsics[d]),
                    query_px=to_pixels(matches.x_query[i], queries.intrinsics[q]),
                    inliers=estimate.inliers[i],
                    success=bool(estimate.success[i]),
                    rotation_deg=float(rotation_deg(found[i, :3, :3], true[:3, :3])),
                    direction_deg=float(between_deg(found[i, :3, 3], true[:3, 3])),
                    turn_deg=float(rotation_deg(true[:3, :3], np.eye(3))),
                    baseline_m=float(np.linalg.norm(true[:3, 3])),
                )
            )
    return pictures


def chosen(pairs: list[PairPicture]) -> list[tuple[str, PairPicture]]:
    """Titles and pairs, in the order of the module's docstring; what does not occur is left out."""
    right = [pair for pair in pairs if pair.success and pair.worst_deg < RIGHT_DEG]
    wrong = [pair for pair in pairs if pair.success and pair.worst_deg > WRONG_DEG]
    refused = [pair for pair in pairs if not pair.success]

    def typical(some: list[PairPicture]) -> list[PairPicture]:
        return sorted(some, key=lambda pair: pair.support)[len(some) // 2 :][:1]

    kinds = {
        "typical": typical(right),
        "widest baseline": sorted(right, key=lambda pair: -pair.baseline_m)[:1],
        "largest turn": sorted(right, key=lambda pair: -pair.turn_deg)[:1],
        "WRONG": sorted(wrong, key=lambda pair: -pair.support)[:1],
        "refused": typical(refused),
    }
    return [(title, pair) for title, some in kinds.items() for pair in some]


def draw(title: str, pair: PairPicture) -> np.ndarray:
    """Both images side by side, RGB, with the matches and a line of figures."""
    sides, points = [], []
    for image, pixels in ((pair.db_image, pair.db_px), (pair.query_image, pair.query_px)):
        scale = TILE_HEIGHT / image.shape[0]
        sides.append(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        points.append((pixels + 0.5) * scale - 0.5)
    canvas = np.concatenate(sides, axis=1)
    points[1] = points[1] + [sides[0].shape[1], 0]
    order = sorted(range(0, len(pair.inliers), DRAWN), key=lambda k: pair.inliers[k])
    for k in order:
        ends = (tuple(int(round(v)) for v in side[k]) for side in points)
        cv2.line(canvas, *ends, GREEN if pair.inliers[k] else RED, 1, cv2.LINE_AA)
    text = (
        f"{title}: off by {pair.rotation_deg:.1f} and {pair.direction_deg:.1f} deg; turned "
        f"{pair.turn_deg:.0f} deg, {pair.baseline_m:.2f} m apart; {pair.support:.0%} agree"
    )
    canvas = np.pad(canvas, ((0, 0), (0, max(0, TILE_WIDTH - canvas.shape[1])), (0, 0)))
    caption = np.zeros((24, canvas.shape[1], 3), np.uint8)
    cv2.putText(caption, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
    return np.concatenate([caption, canvas])


def stacked(tiles: list[np.ndarray]) -> np.ndarray:
    width = max(tile.shape[1] for tile in tiles)
    return np.concatenate(
        [np.pad(tile, ((0, 0), (0, width - tile.shape[1]), (0, 0))) for tile in tiles]
    )


def main(argv: list[str]) -> None:
    del argv
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    pairs = []
    for index in range(_ROOMS.value):
        room = held_out.load_room("test", index, _LIBRARY.value, cache)
        pairs += pairs_of_room(room.database, room.query)
    tiles = [draw(title, pair) for title, pair in chosen(pairs)]
    encoded = cv2.imencode(".jpg", stacked(tiles)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    with files.replacing(pathlib.Path(_OUT.value)) as temporary:
        temporary.write_bytes(encoded.tobytes())
    print(f"{_OUT.value}: {len(tiles)} of {len(pairs)} pairs")


if __name__ == "__main__":
    app.run(main)
