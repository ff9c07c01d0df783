"""Queries of held-out rooms with the matches to their neighbours, for benchmarks of what follows.

Rooms are those of `synthetic_rooms/furnished_large`, splits `validation` and `test`, whose
furniture and surfaces no training room has. Each query keeps the five images of
its own room that retrieval finds, and five of the room after, where it is not.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.geometry.fusion import fuse
from jaxreloc.localization import match_network
from jaxreloc.localization.match_network import MatchNetwork, PairRelations
from jaxreloc.models.imagenet_matcher import imagenet_matcher
from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.models.saved_network import LoadedNetwork
from jaxreloc.training.match_making import EncodedScene, encode_scene
from tfds_builders.synthetic_rooms.generation import render_room
from tfds_builders.synthetic_rooms.settings import FURNISHED_LARGE

NEIGHBOURS = 5
RAY_FIELDS = ("x_query", "x_db", "confidence", "mass", "reverse")


@dataclasses.dataclass(frozen=True)
class Queries:
    """Q queries with N neighbours each and K matches with each of those.

    `world_from_db` is [Q, N, 4, 4], `world_from_query` [Q, 4, 4], `is_own` [Q] whether the
    neighbours are of the query's room.
    """

    x_query: np.ndarray
    x_db: np.ndarray
    confidence: np.ndarray
    mass: np.ndarray
    reverse: np.ndarray
    db_intrinsics: np.ndarray
    query_intrinsics: np.ndarray
    world_from_db: np.ndarray
    world_from_query: np.ndarray
    is_own: np.ndarray

    def __len__(self) -> int:
        return len(self.is_own)

    def matches(self, q: int) -> RayMatches:
        """Of query q with its neighbours."""
        return RayMatches(**{name: jnp.asarray(getattr(self, name)[q]) for name in RAY_FIELDS})

    def select(self, index) -> "Queries":
        return Queries(**{name: x[index] for name, x in vars(self).items()})

    def db_from_query(self) -> np.ndarray:
        """The true relative poses, [Q, N, 4, 4]; of a query in another room's axes nonsense."""
        return np.linalg.inv(self.world_from_db) @ self.world_from_query[:, None]


def concatenate(parts: list[Queries]) -> Queries:
    names = (field.name for field in dataclasses.fields(Queries))
    return Queries(**{k: np.concatenate([getattr(part, k) for part in parts]) for k in names})


@functools.cache
def matcher(canvas: tuple[int, int]) -> MatchNetwork:
    """The frozen matcher."""
    return MatchNetwork(imagenet_matcher(canvas))


def room_queries(
    split: str, rooms: range, canvases: tuple, library: str, cache: pathlib.Path | None
) -> dict[tuple[int, int], Queries]:
    """The queries of some rooms by canvas; read from `cache` or written there, room by room."""
    parts = {canvas: [] for canvas in canvases}
    encoded = {}

    def encode(index: int):
        if index not in encoded:
            encoded.clear() if len(encoded) > 1 else None
            settings = dataclasses.replace(FURNISHED_LARGE, library=library)
            room = render_room(settings, split, index)
            encoded[index] = {
                canvas: [
                    (encode_scene(frames, matcher(canvas)), frames)
                    for frames in (room.database, room.query)
                ]
                for canvas in canvases
            }
        return encoded[index]

    for index in rooms:
        paths = {
            c: cache and cache / f"{split}-{index:03d}-{c[0]}x{c[1]}.npz" for c in canvases
        }
        if not all(path and path.exists() for path in paths.values()):
            here, there = encode(index), encode(index + 1)
            for canvas, path in paths.items():
                queries = _match_room(here[canvas], there[canvas], matcher(canvas))
                if path:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    np.savez(path, **vars(queries))
                parts[canvas].append(queries)
        else:
            for canvas, path in paths.items():
                with np.load(path, allow_pickle=False) as archive:
                    parts[canvas].append(Queries(**archive))
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
    similarity = queries.features.descriptor @ database.features.descriptor.T
    rows = []
    for q in range(len(queries)):
        nearest = np.argsort(-similarity[q])[:NEIGHBOURS]
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


def relate_all(
    loaded: LoadedNetwork, estimator: str, queries: Queries, *, refuse: bool = True
) -> PairRelations:
    """Relations of every query to its neighbours, as NumPy arrays with leading axis Q."""
    function = match_network.relate_matches if refuse else match_network.related
    relate = jax.jit(functools.partial(function, loaded.network, estimator=estimator))
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


def pair_errors(queries: Queries, relations: PairRelations) -> dict[str, np.ndarray]:
    """Errors of each pair [Q, N]: rotation and direction in degrees, position in metres."""
    true = queries.db_from_query()
    found = matrices(relations.db_from_query.wxyz_xyz)
    chord = np.linalg.norm(found[..., :3, :3] - true[..., :3, :3], axis=(-2, -1))
    t, t_true = found[..., :3, 3], true[..., :3, 3]
    across = np.linalg.norm(np.cross(t, t_true), axis=-1)
    return {
        "rotation": np.rad2deg(2 * np.arcsin(np.minimum(1, chord / np.sqrt(8)))),
        "direction": np.rad2deg(np.arctan2(across, np.sum(t * t_true, axis=-1))),
        "position": np.linalg.norm(t - t_true, axis=-1),
        "baseline": np.linalg.norm(t_true, axis=-1),
    }


def fused_errors(queries: Queries, relations: PairRelations) -> tuple[np.ndarray, np.ndarray]:
    """Position (metres) and rotation (degrees) errors [Q]; infinite where refused."""
    world_from_db = se3(queries.world_from_db)
    fused = fuse(
        world_from_db,
        relations.db_from_query,
        valid=relations.valid,
        config=MatchNetwork.fusion_config,
    )
    found = np.asarray(fused.world_from_query.as_matrix(), np.float64)
    position = np.linalg.norm(found[:, :3, 3] - queries.world_from_query[:, :3, 3], axis=-1)
    chord = np.linalg.norm(found[:, :3, :3] - queries.world_from_query[:, :3, :3], axis=(-2, -1))
    rotation = np.rad2deg(2 * np.arcsin(np.minimum(1, chord / np.sqrt(8))))
    success = np.asarray(fused.success)
    return np.where(success, position, np.inf), np.where(success, rotation, np.inf)


def se3(poses: np.ndarray) -> jaxlie.SE3:
    """Poses [..., 4, 4]."""
    flat = jnp.asarray(poses.reshape(-1, 4, 4), jnp.float32)
    wxyz_xyz = jax.vmap(lambda m: jaxlie.SE3.from_matrix(m).wxyz_xyz)(flat)
    return jaxlie.SE3(wxyz_xyz.reshape(*poses.shape[:-2], 7))


def matrices(wxyz_xyz: np.ndarray) -> np.ndarray:
    return np.asarray(jaxlie.SE3(jnp.asarray(wxyz_xyz)).as_matrix(), np.float64)
