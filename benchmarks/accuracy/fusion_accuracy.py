"""Median errors of both fusion methods over a grid of noise, and how honest the uncertainty is.

  python -m benchmarks.accuracy.fusion_accuracy [--pairs=NN_university.txt] [--queries=2000]
      [--seed=0]

Predictions are simulated (`simulated_pairs`) for the cameras of the authors' list of
neighbours, or of random rooms without one. Each line is one setting; for 0, 20 and 40% outliers:

  median position error of `paper` / of `robust` (`<` where robust loses), metres; then the median
  normalised squared error e^T C^-1 e of robust, as a multiple of its theoretical 2.37 (chi-square
  of 3 degrees of freedom), for the position and for the rotation.

Rotations have 6 deg of noise per component everywhere. With `--pairs`, the first lines are of
`paper` with both of its means of rotations, and of an independent version of the authors' script:
as it would be if its list of tied rotations were emptied for each query, and as it is.
"""

import dataclasses
from collections.abc import Iterable

import jax
import numpy as np
from absl import app, flags
from jaxlie import SE3
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from jaxreloc.formats.pair_lists import UNIVERSITY_SCENES, read_neighbor_list
from jaxreloc.geometry.fusion import FusedPose, FusionConfig, fuse
from tests.geometry.paper_reference import CarriedOver, fuse_paper
from tests.geometry.simulated_pairs import Noise, predict, rooms, rotation_of

DIRECTIONS_DEG = (2.0, 8.0, 20.0)
LENGTHS = (0.1, 0.3, 1.0, "unit", "random")
OUTLIERS = (0.0, 0.2, 0.4)
MEDIAN_CHI2 = chi2.median(3)
ANGLE_METRES = 2.0  # a radian between viewing directions counts like so many metres of distance

_PAIRS = flags.DEFINE_string("pairs", None, "the authors' NN_university.txt")
_QUERIES = flags.DEFINE_integer("queries", 2000, "queries a cell")
_NEIGHBORS = flags.DEFINE_list("neighbors", ["1", "2", "5", "10", "20"], "neighbours a query")
_SEED = flags.DEFINE_integer("seed", 0, "of all random numbers")


@dataclasses.dataclass(frozen=True)
class Cameras:
    """True poses: queries [B, 7] with neighbours [B, N, 7], and the scene of each query [B]."""

    world_from_query: np.ndarray
    world_from_db: np.ndarray
    scene: np.ndarray

    def take(self, index: np.ndarray) -> "Cameras":
        return Cameras(self.world_from_query[index], self.world_from_db[index], self.scene[index])


@dataclasses.dataclass(frozen=True)
class Errors:
    """Of one method on one setting, per query; squared errors are normalised by what is stated."""

    position_m: np.ndarray
    rotation_deg: np.ndarray
    position_squared: np.ndarray
    rotation_squared: np.ndarray

    def honesty(self) -> tuple[float, float]:
        """Medians of the normalised squared errors over their theoretical median."""
        return (
            float(np.median(self.position_squared) / MEDIAN_CHI2),
            float(np.median(self.rotation_squared) / MEDIAN_CHI2),
        )


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting of the grid, both methods on the same predictions."""

    noise: Noise
    paper: Errors
    robust: Errors

    def loses(self) -> bool:
        """Whether robust has the larger median position error."""
        return bool(np.median(self.robust.position_m) > np.median(self.paper.position_m))

    def loses_rotation(self) -> bool:
        """The same of rotations, but for rounding: of two rotations both take the middle."""
        paper, robust = np.median(self.paper.rotation_deg), np.median(self.robust.rotation_deg)
        return bool(robust > paper + 1e-3)


def university(path: str) -> Cameras:
    """The authors' list: 3,983 queries with 5 neighbours each."""
    neighbors = read_neighbor_list(path)
    return Cameras(
        _quaternion_poses(neighbors.world_from_query),
        _quaternion_poses(neighbors.world_from_db),
        neighbors.query_scenes,
    )


def with_neighbors(cameras: Cameras, count: int, rng: np.random.Generator) -> Cameras:
    """The first `count` neighbours; if that is more than there are, others of the same scene.

    They are drawn from the 4 `count` views nearest to the query, nearest first.
    """
    if count <= cameras.world_from_db.shape[1]:
        return dataclasses.replace(cameras, world_from_db=cameras.world_from_db[:, :count])
    chosen = np.empty((len(cameras.scene), count, 7))
    for scene in np.unique(cameras.scene):
        queries = np.flatnonzero(cameras.scene == scene)
        pool = np.unique(cameras.world_from_db[queries].reshape(-1, 7), axis=0)
        for query in queries:
            nearest = np.argsort(_distance(cameras.world_from_query[query], pool))[: 4 * count]
            chosen[query] = pool[nearest[np.sort(rng.permutation(len(nearest))[:count])]]
    return dataclasses.replace(cameras, world_from_db=chosen)


def measure(
    cameras: Cameras,
    noise: Noise,
    rng: np.random.Generator,
    config: FusionConfig = FusionConfig(),
) -> Cell:
    """Both methods on the same simulated predictions."""
    predicted, _ = predict(rng, cameras.world_from_db, cameras.world_from_query, noise)
    db, relative = (
        SE3(np.asarray(x, np.float32)) for x in (cameras.world_from_db, predicted)
    )
    fused = (fuse(db, relative, method=method, config=config) for method in ("paper", "robust"))
    return Cell(noise, *(errors_of(x, cameras.world_from_query) for x in fused))


def errors_of(fused: FusedPose, world_from_query: np.ndarray) -> Errors:
    """In float64, whatever `success` says."""
    fused = jax.tree.map(lambda x: np.asarray(x, np.float64), fused)
    offset = fused.world_from_query.wxyz_xyz[:, 4:] - world_from_query[:, 4:]
    estimated, true = rotation_of(fused.world_from_query.wxyz_xyz), rotation_of(world_from_query)
    angle = (estimated.inv() * true).magnitude()
    normalised = np.linalg.solve(fused.position_covariance, offset[..., None])[..., 0]
    return Errors(
        np.linalg.norm(offset, axis=-1),
        np.rad2deg(angle),
        np.sum(offset * normalised, axis=-1),
        np.square(angle / fused.rotation_std),
    )


def grid() -> Iterable[Noise]:
    for length in LENGTHS:
        for direction in DIRECTIONS_DEG:
            for outliers in OUTLIERS:
                yield Noise(direction_deg=direction, length=length, outliers=outliers)


def _quaternion_poses(matrices: np.ndarray) -> np.ndarray:
    flat = matrices.reshape(-1, 4, 4)
    q_wxyz = Rotation.from_matrix(flat[:, :3, :3]).as_quat(scalar_first=True)
    return np.concatenate([q_wxyz, flat[:, :3, 3]], axis=-1).reshape(*matrices.shape[:-2], 7)


def _distance(pose: np.ndarray, others: np.ndarray) -> np.ndarray:
    angle = (rotation_of(pose).inv() * rotation_of(others)).magnitude()
    return np.linalg.norm(others[:, 4:] - pose[4:], axis=-1) + ANGLE_METRES * angle


def _print_script(cameras: Cameras, seed: int) -> None:
    """How `paper` compares with the authors' script, query by query."""
    truth, db = cameras.world_from_query, cameras.world_from_db
    predicted, _ = predict(np.random.default_rng(seed), db, truth, Noise())
    poses = tuple(SE3(np.asarray(x, np.float32)) for x in (db, predicted))
    script = [fuse_paper(*x) for x in zip(db, predicted, strict=True)]
    position = np.stack([x.position for x in script])
    cleared = Rotation.concatenate([x.rotation for x in script])
    carried_over = CarriedOver()
    carried = Rotation.concatenate([carried_over.mean(x.tied_rotations) for x in script])
    print("median deg; share within 0.1 deg of the script, and of it with its list emptied; 1 cm")
    for mean in ("chordal", "l1"):
        fused = fuse(*poses, method="paper", config=FusionConfig(paper_rotation_mean=mean))
        found = np.asarray(fused.world_from_query.wxyz_xyz, np.float64)
        near = np.linalg.norm(found[:, 4:] - position, axis=-1) < 0.01
        shares = (_apart_deg(rotation_of(found), x) < 0.1 for x in (carried, cleared))
        shares = " ".join(f"{np.mean(x):7.2%}" for x in (*shares, near))
        error = np.median(_apart_deg(rotation_of(found), rotation_of(truth)))
        print(f"  paper, {mean:9} {error:.2f}  {shares}")
    for name, rotations in (("emptied", cleared), ("as it is", carried)):
        print(f"  script, {name:8} {np.median(_apart_deg(rotations, rotation_of(truth))):.2f}")


def _apart_deg(a: Rotation, b: Rotation) -> np.ndarray:
    return np.rad2deg((a.inv() * b).magnitude())


def _print_scenes(cameras: Cameras, rng: np.random.Generator) -> None:
    cell = measure(cameras, Noise(), rng)
    print("5 neighbours, 8 deg, log length 0.3, 15% outliers: median m (and deg of all scenes)")
    for name, errors in (("paper", cell.paper), ("robust", cell.robust)):
        medians = [
            f"{UNIVERSITY_SCENES[scene]} {np.median(errors.position_m[cameras.scene == scene]):.3f}"
            for scene in np.unique(cameras.scene)
        ]
        print(f"  {name:6}  {'  '.join(medians)}  ({np.median(errors.rotation_deg):.2f} deg)")


def _print_grid(cameras: Cameras, count: int, rng: np.random.Generator) -> list[Cell]:
    print(
        f"\nN = {count}\n{'length':>8} {'direction':>9}" + "".join(f"{o:>30.0%}" for o in OUTLIERS)
    )
    cells = []
    for noise in grid():
        if noise.outliers == OUTLIERS[0]:
            print(f"{noise.length!s:>8} {noise.direction_deg:>5.0f} deg", end="")
        cell = measure(cameras, noise, rng)
        cells.append(cell)
        paper, robust = np.median(cell.paper.position_m), np.median(cell.robust.position_m)
        position, rotation = cell.robust.honesty()
        mark = "<" if cell.loses() else " "
        end = "\n" if noise.outliers == OUTLIERS[-1] else ""
        print(
            f"{paper:11.3f} / {robust:.3f}{mark} {position:4.1f} {rotation:4.1f}",
            end=end,
            flush=True,
        )
    return cells


def _summarize(count: int, cells: list[Cell]) -> str:
    honesty = np.array([cell.robust.honesty() for cell in cells])
    outside = np.sum((honesty < 0.5) | (honesty > 2.0), axis=0)
    return (
        f"N = {count:2}: {len(cells)} cells; "
        f"robust loses {sum(c.loses() for c in cells)} in position, "
        f"{sum(c.loses_rotation() for c in cells)} in rotation; normalised squared error: median "
        f"{np.median(honesty[:, 0]):.2f}, {outside[0]} cells beyond a factor 2 (rotation "
        f"{np.median(honesty[:, 1]):.2f}, {outside[1]})"
    )


def main(_) -> None:
    rng = np.random.default_rng(_SEED.value)
    if _PAIRS.value:
        cameras = university(_PAIRS.value)
        _print_script(cameras, _SEED.value)
        _print_scenes(cameras, rng)
        cameras = cameras.take(rng.permutation(len(cameras.scene))[: _QUERIES.value])
    summaries = []
    for count in map(int, _NEIGHBORS.value):
        if _PAIRS.value:
            chosen = with_neighbors(cameras, count, rng)
        else:
            query, db = rooms(rng, _QUERIES.value, count)
            chosen = Cameras(query, db, np.zeros(len(query), int))
        summaries.append(_summarize(count, _print_grid(chosen, count, rng)))
    print("\n" + "\n".join(summaries))


if __name__ == "__main__":
    app.run(main)
