"""From posed frames to matched pairs: mining, encoding and matching, a scene at a time."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Float32, Int, PyTree

from jaxreloc.data.pairing.mined_pairs import Pairs, make_pairs, mine_pairs, wxyz_xyz
from jaxreloc.data.pairing.overlap import pair_overlap
from jaxreloc.data.pairing.pair_target import Bins, PairTarget
from jaxreloc.formats.frames import Chain, PosedFrames
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.training.inputs import matched_pairs
from jaxreloc.training.inputs.matched_pairs import MatchedPairs

# Whatever can be matched at all, with as many difficult pairs as easy ones.
TARGET = PairTarget(
    rotation_deg=Bins((0, 15, 30, 60), (1, 1, 1)),
    baseline_m=Bins((0.01, 0.1, 0.3, 0.7, 4.0), (0.4, 1, 1, 1)),
    overlap=Bins((0.1, 0.25, 0.45, 1.01), (1, 1, 1)),
)
NO_OVERLAP = 0.005
STRANGERS = 12  # images of a scene that are kept to be taken for ones of the next


@dataclasses.dataclass(frozen=True)
class MatchMaking:
    """How many pairs of each scene are matched, and how.

    Attributes:
      image_sizes: canvases (height, width); the pairs of a scene take turns.
      num_pairs: of each scene, sharing some of their view.
      unrelated_share: beside them, as a share of `num_pairs`, pairs that share nothing: half of
        them of the same scene, half with the most similar images of the scene before.
      max_matches: that are kept of each pair.
      description: which descriptors are matched (`network_weights.description_name`).
    """

    image_sizes: tuple[tuple[int, int], ...]
    num_pairs: int = 300
    unrelated_share: float = 0.2
    max_matches: int = 600
    description: str = "imagenet"
    seed: int = 0


def write_scenes(
    scenes: Iterable[tuple[str, Callable[[], Sequence[PosedFrames]]]],
    networks: Sequence[MatchNetwork],
    folder: pathlib.Path,
    settings: MatchMaking,
    say: Callable[[str], None] = lambda line: None,
) -> list[pathlib.Path]:
    """Writes the matched pairs of each scene into a file of its own, unless it is there already.

    What is written does not depend on which files were there: an interrupted call can be repeated.

    Args:
      scenes: names, and what reads the frames of each, in one part or several, such as the
        database's and the queries'.
      networks: one for each of `settings.image_sizes`.

    Returns:
      The files, in the order of the scenes.
    """
    paths, strangers, read_before = [], None, None
    for name, read in scenes:
        path = folder / f"{name}{matched_pairs.SUFFIX}"
        paths.append(path)
        if path.exists():
            strangers, read_before = None, read
            continue
        frames = joined(read())
        if strangers is None and read_before is not None:
            strangers = encode_strangers(joined(read_before()), networks, settings)
        pairs, strangers = match_scene(frames, networks, settings, strangers)
        matched_pairs.save(path, pairs)
        say(f"{path.name}: {len(pairs)} pairs of {len(frames)} frames")
    return paths


def joined(parts: Sequence[PosedFrames]) -> PosedFrames:
    """The frames of several parts of one scene."""
    if len(parts) == 1:
        return parts[0]

    def all_or_none(name: str, join: Callable):
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else join(values)

    return PosedFrames(
        scene=parts[0].scene,
        names=sum((part.names for part in parts), ()),
        world_from_cam=np.concatenate([part.world_from_cam for part in parts]),
        intrinsics=np.concatenate([part.intrinsics for part in parts]),
        image_sizes=np.concatenate([part.image_sizes for part in parts]),
        images=Chain(tuple(part.images for part in parts)),
        depths=all_or_none("depths", lambda depths: Chain(tuple(depths))),
        depth_intrinsics=all_or_none("depth_intrinsics", np.concatenate),
    )


@dataclasses.dataclass(frozen=True)
class EncodedScene:
    """Frames as a matcher sees them.

    Attributes:
      features: leading axis n, on the host.
      intrinsics: of the canvas, float32 [n, 3, 3].
      numbers: of the frames in their scene.
    """

    scene: str
    features: PyTree
    intrinsics: Float32[np.ndarray, "n 3 3"]
    numbers: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.intrinsics)

    def select(self, index: np.ndarray) -> "EncodedScene":
        features = jax.tree.map(lambda x: x[index], self.features)
        return EncodedScene(self.scene, features, self.intrinsics[index], self.numbers[index])


def encode_scene(frames: PosedFrames, network: MatchNetwork) -> EncodedScene:
    """Every frame, one at a time; they are numbered from 0."""
    features, intrinsics = [], []
    for i in range(len(frames)):
        image, matrix = network.prepare(frames.images[i], frames.intrinsics[i])
        features.append(jax.device_get(network.encode(image[None])))
        intrinsics.append(matrix)
    features = jax.tree.map(lambda *x: np.concatenate(x), *features)
    intrinsics = np.stack(intrinsics).astype(np.float32)
    return EncodedScene(frames.scene, features, intrinsics, np.arange(len(frames)))


def encode_strangers(
    frames: PosedFrames, networks: Sequence[MatchNetwork], settings: MatchMaking
) -> list[EncodedScene]:
    """The images of a scene that `match_scene` keeps to be strangers to the next one."""
    numbers = _stranger_numbers(frames, settings)
    chosen = frames.select(numbers)
    return [
        dataclasses.replace(encode_scene(chosen, network), numbers=numbers) for network in networks
    ]


def _stranger_numbers(frames: PosedFrames, settings: MatchMaking) -> Int[np.ndarray, " n"]:
    rng = np.random.default_rng([settings.seed, STRANGERS, *frames.scene.encode()])
    return rng.choice(len(frames), min(STRANGERS, len(frames)), replace=False)


def match_scene(
    frames: PosedFrames,
    networks: Sequence[MatchNetwork],
    settings: MatchMaking,
    strangers: list[EncodedScene] | None,
) -> tuple[MatchedPairs, list[EncodedScene]]:
    """The matched pairs of a scene, and some of its images to be strangers to the next one.

    Args:
      strangers: of the scene before, for each network; None leaves out pairs of two scenes.
    """
    rng = np.random.default_rng([settings.seed, *frames.scene.encode()])
    num_unrelated = round(settings.unrelated_share * settings.num_pairs / 2)
    mined = mine_pairs(
        [frames], num_pairs=settings.num_pairs, target=TARGET, seed=int(rng.integers(1 << 31))
    )
    pairs = _joined_pairs(mined, unrelated_pairs(frames, num_unrelated, rng))
    parts, kept = [], []
    for k, network in enumerate(networks):
        encoded = encode_scene(frames, network)
        mine = pairs.select(np.arange(k, len(pairs), len(networks)))
        parts.append(match_pairs(network, encoded, mine, settings.max_matches))
        if strangers is not None:
            queries = rng.choice(len(encoded), max(1, num_unrelated // len(networks)))
            foreign = strangers[k], encoded.select(queries)
            parts.append(match_strangers(network, *foreign, settings.max_matches))
        kept.append(encoded.select(_stranger_numbers(frames, settings)))
    return matched_pairs.concatenate(parts), kept


def unrelated_pairs(frames: PosedFrames, count: int, rng: np.random.Generator) -> Pairs:
    """At most `count` pairs of frames that share nothing."""
    first, second = rng.integers(len(frames), size=(2, 20 * count))
    overlap = pair_overlap(frames, first, second)
    chosen = np.flatnonzero((overlap < NO_OVERLAP) & (first != second))[:count]
    scene = np.zeros(len(chosen), np.int64)
    return make_pairs([frames], scene, first[chosen], second[chosen], overlap[chosen])


def match_pairs(
    network: MatchNetwork, encoded: EncodedScene, pairs: Pairs, max_matches: int
) -> MatchedPairs:
    """The matches of pairs of one scene."""
    matches = _matches(network, encoded, pairs.db, encoded, pairs.query, max_matches)
    return MatchedPairs(
        **matches,
        db_from_query=wxyz_xyz(pairs.db_from_query),
        overlap=np.asarray(pairs.overlap, np.float32),
        names=np.full(len(pairs), encoded.scene),
    )


def match_strangers(
    network: MatchNetwork, db: EncodedScene, queries: EncodedScene, max_matches: int
) -> MatchedPairs:
    """The matches of each query with the most similar image of another scene."""
    similarity = queries.features.descriptor @ db.features.descriptor.T
    nearest = np.argmax(similarity, axis=1)
    query = np.arange(len(queries))
    matches = _matches(network, db, nearest, queries, query, max_matches)
    return MatchedPairs(
        **matches,
        db_from_query=np.tile(np.float32([1, 0, 0, 0, 0, 0, 0]), (len(queries), 1)),
        overlap=np.zeros(len(queries), np.float32),
        names=np.full(len(queries), f"{db.scene}/{queries.scene}"),
    )


def _matches(
    network: MatchNetwork,
    db: EncodedScene,
    db_index: Int[np.ndarray, " n"],
    query: EncodedScene,
    query_index: Int[np.ndarray, " n"],
    max_matches: int,
) -> dict[str, np.ndarray]:
    """The fields of MatchedPairs that follow from the images."""
    results = []
    for i, q in zip(db_index, query_index, strict=True):
        one, other = db.select(np.array([i])), query.select(np.array([q]))
        matches = network.match(one.features, one.intrinsics, other.features, other.intrinsics)
        results.append(jax.device_get(jax.tree.map(lambda x: x[0, :max_matches], matches)))
    fields = {name: np.stack([getattr(m, name) for m in results]) for name in _RAY_FIELDS}
    focal_px = [
        np.sqrt(x.intrinsics[index, 0, 0] * x.intrinsics[index, 1, 1])
        for x, index in ((db, db_index), (query, query_index))
    ]
    return fields | {
        "focal_px": np.sqrt(focal_px[0] * focal_px[1]),
        "height_px": np.full(len(results), network.canvas[0]),
        "frames": np.stack([db.numbers[db_index], query.numbers[query_index]], axis=1),
    }


_RAY_FIELDS = ("x_query", "x_db", "confidence", "mass", "reverse")


def _joined_pairs(first: Pairs, second: Pairs) -> Pairs:
    fields = (field.name for field in dataclasses.fields(Pairs))
    return Pairs(**{k: np.concatenate([getattr(first, k), getattr(second, k)]) for k in fields})
