"""Held-out rooms, and their queries with the matches to their neighbours, for benchmarks.

Rooms are those of `synthetic_rooms/furnished_large`, splits `validation` and `test`, whose
furniture and surfaces no training room has. A query's neighbours are the five images that
retrieval finds: of its own room and, to be told apart, of the room after, where it is not.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np

from benchmarks.angles import between_deg, rotation_deg
from jaxreloc import files
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.geometry.fusion import FusedPose, FusionConfig
from jaxreloc.localization.methods import pair_fusion
from jaxreloc.localization.networks import match_relations
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.models.weights.network_weights import shipped_matcher
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.training.inputs.match_making import EncodedScene, encode_scene
from jaxreloc.usage import UsageError
from tfds_builders.rooms.generation import RenderedRoom, render_room
from tfds_builders.rooms.settings import FURNISHED_LARGE

NEIGHBOURS = 5
WRONG_M, WRONG_DEG = 1.0, 20.0
RAY_FIELDS = ("x_query", "x_db", "confidence", "mass", "reverse")


@dataclasses.dataclass(frozen=True)
class QueryPoses:
    """The true poses of Q queries and of N neighbours each.

    `world_from_db` is [Q, N, 4, 4], `world_from_query` [Q, 4, 4].
    """

    world_from_db: np.ndarray
    world_from_query: np.ndarray

    def __len__(self) -> int:
        return len(self.world_from_query)

    def db_from_query(self) -> np.ndarray:
        """The true relative poses, [Q, N, 4, 4]; of a query in another room's axes nonsense."""
        return np.linalg.inv(self.world_from_db) @ self.world_from_query[:, None]


@dataclasses.dataclass(frozen=True)
class Queries(QueryPoses):
    """With K matches for each of the neighbours, and `is_own` [Q]: these are of its own room."""

    x_query: np.ndarray
    x_db: np.ndarray
    confidence: np.ndarray
    mass: np.ndarray
    reverse: np.ndarray
    db_intrinsics: np.ndarray
    query_intrinsics: np.ndarray
    is_own: np.ndarray

    def matches(self, q: int) -> RayMatches:
        """Of query q with its neighbours."""
        return RayMatches(**{name: jnp.asarray(getattr(self, name)[q]) for name in RAY_FIELDS})


def concatenate(parts: list):
    """Several QueryPoses, or several Queries, as one."""
    kind = type(parts[0])
    names = (field.name for field in dataclasses.fields(kind))
    return kind(**{k: np.concatenate([getattr(part, k) for part in parts]) for k in names})


@functools.cache
def matcher(canvas: tuple[int, int]) -> MatchNetwork:
    """The network that ships."""
    return MatchNetwork(shipped_matcher(canvas))


def load_room(
    split: str, index: int, library: str | None, cache: pathlib.Path | None
) -> RenderedRoom:
    """A room's pictures, without depth; read from `cache`, or rendered and kept there.

    Raises:
      UsageError: there is no library to render the room with.
    """
    path = cache and cache / f"{split}-{index:03d}-pictures.npz"

    def render() -> dict[str, PosedFrames]:
        room = render_held_out(split, index, library)
        return {"database": room.database, "query": room.query}

    return RenderedRoom(**kept_frames(path, render))


@functools.lru_cache(maxsize=1)
def render_held_out(split: str, index: int, library: str | None) -> RenderedRoom:
    """A room with its depth; raises UsageError if there is no library to render it with."""
    check_library(library, split, index)
    return render_room(dataclasses.replace(FURNISHED_LARGE, library=library), split, index)


def check_library(library: str | None, split: str, index: int) -> None:
    """Raises a UsageError if there is none to render the room with."""
    if library is None:
        raise UsageError(f"room {split}-{index:03d} is to be rendered: give --library=FOLDER")


def kept_frames(
    path: pathlib.Path | None, make: Callable[[], dict[str, PosedFrames]]
) -> dict[str, PosedFrames]:
    """What `make` gives, without depth: made once and kept in `path`, where there is one."""
    if path and path.exists():
        with np.load(path, allow_pickle=False) as archive:
            parts = {name.partition("_")[0]: None for name in archive.files}
            return {part: _unpack(archive, part) for part in parts}
    frames = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for part in frames:
            arrays |= _pack(frames[part], part)
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    return frames


def _pack(frames: PosedFrames, part: str) -> dict[str, np.ndarray]:
    """Pictures are of two shapes, portrait and landscape, and so kept as a line of bytes each."""
    arrays = {
        "scene": np.array(frames.scene),
        "names": np.array(frames.names),
        "world_from_cam": frames.world_from_cam,
        "intrinsics": frames.intrinsics,
        "image_sizes": frames.image_sizes,
        "pixels": np.stack([frames.images[i].ravel() for i in range(len(frames))]),
    }
    return {f"{part}_{name}": array for name, array in arrays.items()}


def _unpack(archive, part: str) -> PosedFrames:
    names = ("scene", "names", "world_from_cam", "intrinsics", "image_sizes", "pixels")
    arrays = {name: archive[f"{part}_{name}"] for name in names}
    pixels, sizes = arrays.pop("pixels"), arrays["image_sizes"]
    images = [row.reshape(height, width, 3) for row, (width, height) in zip(pixels, sizes)]
    texts = {"scene": str(arrays["scene"]), "names": tuple(map(str, arrays["names"]))}
    return PosedFrames(**arrays | texts, images=images)


def room_queries(
    split: str, rooms: range, canvases: tuple, library: str | None, cache: pathlib.Path | None
) -> dict[tuple[int, int], Queries]:
    """The queries of some rooms by canvas, matched by the network that ships; see `load_room`."""
    parts = {canvas: [] for canvas in canvases}

    def encode(index: int):
        room = load_room(split, index, library, cache)
        return {
            canvas: [
                (encode_scene(frames, matcher(canvas)), frames)
                for frames in (room.database, room.query)
            ]
            for canvas in canvases
        }

    here = encode(rooms[0])
    for index in rooms:
        there = encode(index + 1)
        for canvas in canvases:
            parts[canvas].append(_match_room(here[canvas], there[canvas], matcher(canvas)))
        here = there
    return {canvas: concatenate(part) for canvas, part in parts.items()}


def _match_room(here, there, network: MatchNetwork) -> Queries:
    (database, db_frames), (queries, query_frames) = here
    (other, other_frames), _ = there
    return concatenate(
        [
            match_queries(network, database, db_frames, queries, query_frames, own=True),
            match_queries(network, other, other_frames, queries, query_frames, own=False),
        ]
    )


def nearest_images(queries: EncodedScene, database: EncodedScene) -> np.ndarray:
    """The database images [Q, N] that are most similar to each query, the most similar first."""
    similarity = queries.features.descriptor @ database.features.descriptor.T
    return np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]


def match_queries(
    network: MatchNetwork,
    database: EncodedScene,
    db_frames: PosedFrames,
    queries: EncodedScene,
    query_frames: PosedFrames,
    *,
    own: bool,
) -> Queries:
    """Retrieves and matches every query."""
    rows = []
    for q, nearest in enumerate(nearest_images(queries, database)):
        db, query = database.select(nearest), queries.select(np.array([q]))
        matches = jax.device_get(
            network.match(db.features, db.intrinsics, query.features, query.intrinsics)
        )
        rows.append(
            {name: getattr(matches, name) for name in RAY_FIELDS}
            | {
                "db_intrinsics": db.intrinsics,
                "query_intrinsics": query.intrinsics[0],
                "world_from_db": db_frames.world_from_cam[nearest],
                "world_from_query": query_frames.world_from_cam[q],
                "is_own": np.bool_(own),
            }
        )
    return Queries(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def relate_all(loaded: LoadedNetwork, estimator: str, queries: Queries) -> PairRelations:
    """Relations of every query to its neighbours, as NumPy arrays with leading axis Q."""
    relate = functools.partial(match_relations.relate_matches, loaded.network, estimator=estimator)
    relate = jax.jit(relate)
    variables = jax.device_put(loaded.variables)
    rows = [
        jax.device_get(
            relate(
                variables,
                queries.matches(q),
                queries.db_intrinsics[q],
                queries.query_intrinsics[[q]],
            )
        )
        for q in range(len(queries))
    ]
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def pair_errors(poses: QueryPoses, relations: PairRelations) -> dict[str, np.ndarray]:
    """Errors of each pair [Q, N]: rotation and direction in degrees, position in metres.

    A pair without a pose, which is NaN, is infinitely far off.
    """
    true = poses.db_from_query()
    found = matrices(relations.db_from_query.wxyz_xyz)
    t, t_true = found[..., :3, 3], true[..., :3, 3]
    errors = {
        "rotation": rotation_deg(found[..., :3, :3], true[..., :3, :3]),
        "direction": between_deg(t, t_true),
        "position": np.linalg.norm(t - t_true, axis=-1),
    }
    errors = {name: np.where(np.isnan(x), np.inf, x) for name, x in errors.items()}
    return errors | {"baseline": np.linalg.norm(t_true, axis=-1)}


def fused_errors(
    poses: QueryPoses,
    relations: PairRelations,
    config: FusionConfig = MatchNetwork.fusion_config,
) -> tuple[np.ndarray, np.ndarray]:
    """Position (metres) and rotation (degrees) errors [Q]; infinite where refused."""
    fused = fuse_relations(poses, relations, config)
    found = np.asarray(fused.world_from_query.as_matrix(), np.float64)
    position = np.linalg.norm(found[:, :3, 3] - poses.world_from_query[:, :3, 3], axis=-1)
    rotation = rotation_deg(found[:, :3, :3], poses.world_from_query[:, :3, :3])
    success = np.asarray(fused.success)
    return np.where(success, position, np.inf), np.where(success, rotation, np.inf)


def fused_figures(position: np.ndarray, rotation: np.ndarray) -> dict[str, str]:
    """A table's columns on errors as of `fused_errors`, those who were refused counted as such."""
    wrong = (position > WRONG_M) | (rotation > WRONG_DEG)
    return {
        "fused: cm": f"{100 * np.median(position):.1f}",
        "deg": f"{np.median(rotation):.2f}",
        "within 10 cm, 5 deg": f"{np.mean((position < 0.1) & (rotation < 5)):.0%}",
        "within 50 cm, 5 deg": f"{np.mean((position < 0.5) & (rotation < 5)):.0%}",
        "wrong": f"{np.mean(np.isfinite(position) & wrong):.0%}",
        "refused": f"{np.mean(np.isinf(position)):.0%}",
    }


def fuse_relations(
    poses: QueryPoses, relations: PairRelations, config: FusionConfig
) -> FusedPose:
    """As the localizer does it: `success` says what it would not refuse."""
    return pair_fusion.fuse_relations(se3(poses.world_from_db), relations, config=config)[0]


def se3(poses: np.ndarray) -> jaxlie.SE3:
    """Poses [..., 4, 4]."""
    flat = jnp.asarray(poses.reshape(-1, 4, 4), jnp.float32)
    wxyz_xyz = jax.vmap(lambda m: jaxlie.SE3.from_matrix(m).wxyz_xyz)(flat)
    return jaxlie.SE3(wxyz_xyz.reshape(*poses.shape[:-2], 7))


def matrices(wxyz_xyz: np.ndarray) -> np.ndarray:
    return np.asarray(jaxlie.SE3(jnp.asarray(wxyz_xyz)).as_matrix(), np.float64)
