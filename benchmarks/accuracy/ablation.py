"""What each part of the correlation pipeline adds, on the same held-out rooms and queries.

  python -m benchmarks.accuracy.ablation --library=FOLDER [--rooms=6] [--cache=FOLDER]
      [--checkpoint=DIR] [--concat=LABEL=DIR ...]
  python -m benchmarks.accuracy.ablation --images=PHOTOS [--checkpoint=DIR] [--concat=LABEL=DIR ...]

At each input size, every row relates the same queries to the same five images, which retrieval by
frozen features finds at that size:
  SIFT              ratio test, essential matrix (OpenCV), pictures of the same size
  concat LABEL      the paper's head on pooled features, of networks given by --concat
  frozen, matches   ImageNet's features and RANSAC, without any training
  matches, network, refined   the estimators of the network that ships, or of --checkpoint
The figures are medians over the pairs (rotation, direction and position of the relative pose), then
of the fused poses of the queries. Queries that are refused count as infinitely far off in medians
and recalls; "wrong" are answers that are off by a metre or 20 deg. "ms" is the median time of a
query on one core: describing it, relating it to the five, and fusing; the retrieval's search is not
in it, nor what is known of the database before. With --images, a folder of posed photographs of
which every fifth is a query.
"""

import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
if hasattr(os, "sched_setaffinity"):  # before libraries make their threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

import dataclasses
import sys

import jax
import numpy as np
import tabulate
from absl import app, flags

from benchmarks.accuracy import held_out, relating
from benchmarks.accuracy.held_out import QueryPoses
from benchmarks.accuracy.relating import Answers, Concatenation, Matching, Sift, timed
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import split_frames
from jaxreloc.localization.networks import loading
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.match_relations import ESTIMATORS
from jaxreloc.models.weights import saved_network
from jaxreloc.models.weights.network_weights import imagenet_matcher, shipped_matcher
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.training.inputs.match_making import encode_scene
from jaxreloc.usage import UsageError

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A trained network, not the shipped one.")
_CONCAT = flags.DEFINE_multi_string(
    "concat",
    [],
    "LABEL=DIR: a trained network with the concatenation head. Of several with one label, each "
    "input size takes the one whose config.data.image_size is nearest.",
)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs, instead of rooms.")
_CACHE = flags.DEFINE_string(
    "cache",
    None,
    "Folder where the rooms' pictures are kept. They depend on no network, but on the library.",
)

CANVASES = ((192, 256), (288, 384), (384, 512))
LONG_SIDES = (256, 384, 512)
FUSIONS_TIMED = 20


@dataclasses.dataclass(frozen=True)
class Scene:
    """A place's two sides."""

    database: PosedFrames
    queries: PosedFrames

    def neighbors(self, network: MatchNetwork) -> np.ndarray:
        """The database images [Q, N] that its descriptors find."""
        encoded = (encode_scene(frames, network) for frames in (self.queries, self.database))
        return held_out.nearest_images(*encoded)

    def poses(self, neighbors: np.ndarray) -> QueryPoses:
        return QueryPoses(self.database.world_from_cam[neighbors], self.queries.world_from_cam)


def table_row(poses: QueryPoses, answers: Answers) -> dict[str, str]:
    """The figures of one row."""
    errors = held_out.pair_errors(poses, answers.relations)
    moved = errors["baseline"] > 0.03
    fused = held_out.fused_errors(poses, answers.relations, answers.fusion_config)
    return {
        "pair: rotation, deg": f"{np.median(errors['rotation']):.2f}",
        "direction, deg": f"{np.median(errors['direction'][moved]):.1f}",
        "position, m": f"{np.median(errors['position']):.3f}",
        **held_out.fused_figures(*fused),
        "ms": f"{np.median(answers.ms) + fusion_ms(poses, answers):.0f}",
    }


def fusion_ms(poses: QueryPoses, answers: Answers) -> float:
    """The median time of one query's fusion."""
    times = []
    for q in range(min(FUSIONS_TIMED, len(poses))):
        one = QueryPoses(poses.world_from_db[[q]], poses.world_from_query[[q]])
        relations = jax.tree.map(lambda x: x[[q]], answers.relations)
        times.append(timed(held_out.fuse_relations, one, relations, answers.fusion_config)[1])
    return float(np.median(times))


def rows_of_canvas(
    scenes: list[Scene],
    canvas: tuple[int, int],
    trained: LoadedNetwork | None,
    concat: dict[str, list[LoadedNetwork]],
) -> list[dict[str, str]]:
    """The table's rows of one input size."""
    frozen = Matching(imagenet_matcher(canvas), {"matches": "frozen, matches"})
    neighbors = [scene.neighbors(frozen.network) for scene in scenes]
    poses = held_out.concatenate(
        [scene.poses(nearest) for scene, nearest in zip(scenes, neighbors, strict=True)]
    )
    if trained is not None:
        data = {"data": {"image_size": canvas}}
        trained = dataclasses.replace(trained, config=trained.config | data)
    families = [
        Sift(canvas),
        *(
            Concatenation(of_nearest_size(networks, canvas), canvas, f"concat {label}")
            for label, networks in concat.items()
        ),
        frozen,
        Matching(trained or shipped_matcher(canvas), {name: name for name in ESTIMATORS}),
    ]
    rows = []
    for family in families:
        parts = [
            family.relate_scene(scene.database, scene.queries, nearest)
            for scene, nearest in zip(scenes, neighbors, strict=True)
        ]
        for name in parts[0]:
            answers = relating.concatenate([part[name] for part in parts])
            head = {"input": f"{canvas[1]}x{canvas[0]}", "method": name}
            rows.append(head | table_row(poses, answers))
        print(f"{canvas[1]}x{canvas[0]}: {', '.join(parts[0])}", file=sys.stderr, flush=True)
    return rows


def of_nearest_size(networks: list[LoadedNetwork], canvas: tuple[int, int]) -> LoadedNetwork:
    """The network that was trained on images of the size nearest to the canvas's."""
    widths = [network.config["data"]["image_size"][1] for network in networks]
    return networks[int(np.argmin([abs(np.log(width / canvas[1])) for width in widths]))]


def concat_networks(arguments: list[str]) -> dict[str, list[LoadedNetwork]]:
    """The networks by label.

    Raises:
      UsageError: an argument is not LABEL=DIR, or there is no such network.
    """
    networks = {}
    for argument in arguments:
        label, equals, folder = argument.partition("=")
        if not equals:
            raise UsageError(f"--concat={argument}: give LABEL=DIR")
        loaded = saved_network.read_network(folder)
        if loaded.config["model"]["head"] != "concat" or "image_size" not in loaded.config["data"]:
            raise UsageError(
                f"--concat={argument}: not a network with head 'concat' and config.data.image_size"
            )
        networks.setdefault(label, []).append(loaded)
    return networks


def load_rooms() -> list[Scene]:
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    rooms = [
        held_out.load_room(_SPLIT.value, index, _LIBRARY.value, cache)
        for index in range(_ROOMS.value)
    ]
    return [Scene(room.database, room.query) for room in rooms]


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    concat = concat_networks(_CONCAT.value)
    trained = saved_network.read_network(_CHECKPOINT.value) if _CHECKPOINT.value else None
    if _IMAGES.value:
        frames = read_posed_images(_IMAGES.value)
        scenes = [Scene(*(split_frames(frames, part) for part in ("database", "query")))]
        sizes = scenes[0].database.image_sizes
        canvases = [loading.canvas(sizes, long_side) for long_side in LONG_SIDES]
    else:
        scenes, canvases = load_rooms(), CANVASES
    rows = [
        row for canvas in canvases for row in rows_of_canvas(scenes, canvas, trained, concat)
    ]
    source = _IMAGES.value or f"{_ROOMS.value} {_SPLIT.value} rooms"
    count = sum(len(scene.queries) for scene in scenes)
    print(f"{count} queries of {source}, {held_out.NEIGHBOURS} neighbours each")
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    app.run(main)
