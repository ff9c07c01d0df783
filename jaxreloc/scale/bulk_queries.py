"""Queries in bulk: what `jaxreloc query` and `eval` ask one by one, asked by many processes."""

import contextlib
import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import jaxreloc
from jaxreloc import files
from jaxreloc.evaluation import run
from jaxreloc.evaluation.evaluate import Located, SceneQueries
from jaxreloc.formats.localized_poses import LocalizedPose, json_line, parse_json_line
from jaxreloc.images import set_max_pixels
from jaxreloc.localization.jobs import querying
from jaxreloc.localization.jobs.query_cameras import QueryCameras
from jaxreloc.localization.jobs.query_images import QueryImages
from jaxreloc.localization.map.encoding import EncodedImages
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import load_network
from jaxreloc.models.weights import saved_network
from jaxreloc.scale import pieces
from jaxreloc.scale.cluster import as_path, connected
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
PIECE_SIZE = 4  # queries
MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class BulkQueries:
    """What the workers are told: how to open a map, and how to ask it.

    Attributes:
      options: of `querying.open_localizer`.
    """

    map: pathlib.Path
    options: Mapping[str, Any]
    intrinsics_path: pathlib.Path | None
    near: Sequence[float] | None
    max_pixels: int


@contextlib.contextmanager
def answering(
    queries: BulkQueries, images: str | pathlib.Path, address: str | None, workers: int | None
) -> Iterator[querying.Elsewhere]:
    """Localizes pictures on the cluster at `address`, or on all cores of this machine.

    Raises:
      UsageError: the images are no folder of pictures, or as `cluster.connected`.
    """
    source = as_path(images)
    if not source.is_dir():
        raise UsageError(
            f"{images}: --engine=ray takes a folder of pictures; a video's frames follow each "
            "other, leave it out"
        )
    shared = [queries.map, source, *filter(None, [queries.intrinsics_path])]
    with connected(address, shared=shared) as fitting:

        def elsewhere(
            pictures: Sequence[tuple[str, pathlib.Path]],
        ) -> Iterator[tuple[LocalizedPose, str]]:
            asked = [(name, str(as_path(path))) for name, path in pictures]
            parts = [asked[i : i + PIECE_SIZE] for i in range(0, len(asked), PIECE_SIZE)]
            arguments = (queries, str(source))
            for part in pieces.done(_Localizing, arguments, parts, workers or fitting):
                for line, problem in part:
                    if problem:
                        logger.warning("%s", problem)
                    yield parse_json_line(line), problem

        yield elsewhere


class _Localizing:
    """Has the map open, and localizes pictures one by one, as a single process does."""

    def __init__(self, queries: BulkQueries, source: str):
        set_max_pixels(queries.max_pixels)
        self._source = source
        self._localizer = querying.open_localizer(queries.map, **queries.options)
        self._cameras = QueryCameras(self._localizer, queries.intrinsics_path)
        scene_map = self._localizer.scene_map
        self._allowed = None if queries.near is None else scene_map.images_near(queries.near)

    def __call__(self, pictures: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        named = tuple((name, pathlib.Path(path)) for name, path in pictures)
        located = querying.localize_each(
            self._localizer,
            QueryImages(self._source, False, named),
            self._cameras,
            lambda image: None,
            (),
            self._allowed,
        )
        return [(json_line(pose), problem) for pose, problem in located]


@contextlib.contextmanager
def evaluating(
    settings: run.Settings,
    network_path: pathlib.Path | None,
    model: Mapping[str, Any] | None,
    out: pathlib.Path,
    address: str | None,
    workers: int | None,
) -> Iterator[run.Elsewhere]:
    """Asks the queries of scenes on the cluster at `address`, or on all cores of this machine.

    What is answered is kept in a scene's folder of results until all scenes are done, so that the
    same command goes on from there.

    Args:
      out: the folder of results.
    """
    if "shipped" in settings.methods:
        raise UsageError("--baseline=shipped is asked by one process; leave it, or --engine, out")
    run.make_folder(out)
    paths = {name: getattr(settings, name) for name in ("data_path", "data_dir")}
    paths = {name: str(as_path(path)) for name, path in paths.items() if path is not None}
    settings = dataclasses.replace(settings, **paths)
    network_path = None if network_path is None else as_path(network_path)
    shared = [as_path(out), *filter(None, [settings.data_path, network_path])]
    done = []
    with connected(address, shared=shared) as fitting:

        def elsewhere(
            scene: run.Scene, folder: pathlib.Path, scene_map: SceneMap, images: EncodedImages
        ) -> list[dict[str, Located]]:
            kept = as_path(folder) / "queries.partial"
            kept.mkdir(parents=True, exist_ok=True)
            files.check_same(
                kept / "settings.json",
                json.dumps(_told(settings, network_path, scene), sort_keys=True),
                f"{kept}: is of a run with other flags, pictures or another network; give the "
                "same, or remove it",
            )
            map_folder = kept / "map"
            if not map_folder.exists():
                SceneMap.create(map_folder, scene_map.network, [images])
            count = len(scene.queries)
            parts = [[i, min(i + PIECE_SIZE, count)] for i in range(0, count, PIECE_SIZE)]
            arguments = (str(map_folder), settings, scene.name, network_path, model, str(kept))
            missing = [part for part in parts if not _answers(kept, part[0]).exists()]
            for _ in pieces.done(_Evaluating, arguments, missing, workers or fitting):
                pass
            done.append(kept)
            return [one for part in parts for one in _read(_answers(kept, part[0]))]

        yield elsewhere
    for kept in done:
        shutil.rmtree(kept, ignore_errors=True)


def _told(
    settings: run.Settings, network_path: pathlib.Path | None, scene: run.Scene
) -> dict[str, Any]:
    """What the answers to a scene's queries depend on."""
    return dataclasses.asdict(settings) | {
        "network": str(network_path),
        "network_sha256": saved_network.digest_of_file(network_path),
        "poses_sha256": [scene.database.digest(), scene.queries.digest()],
        "version": jaxreloc.__version__,
    }


class _Evaluating:
    """Has a scene's map open, and asks its queries by every method."""

    def __init__(
        self,
        map_folder: str,
        settings: run.Settings,
        name: str,
        network_path: pathlib.Path | None,
        model: Mapping[str, Any] | None,
        kept: str,
    ):
        (scene,) = run.load_evaluation_scenes(dataclasses.replace(settings, scenes=(name,)))
        trained = None if network_path is None else load_network(network_path, model)
        network = trained or run.default_network(scene, settings)
        scene_map = dataclasses.replace(SceneMap.open(map_folder), network=network)
        self._ask = SceneQueries(
            run.localizer_of(scene_map, settings), scene.database, scene.queries, settings.methods
        )
        self._kept = pathlib.Path(kept)
        self._ask(0)  # compiles

    def __call__(self, part: Sequence[int]) -> int:
        first, end = part
        answers = []
        for i in range(first, end):
            located = self._ask(i)
            answers.append(
                {
                    method: [x.world_from_query.tolist(), bool(x.success), x.stage_ms]
                    for method, x in located.items()
                }
            )
        files.write_text(_answers(self._kept, first), json.dumps(answers))
        return end - first


def _answers(kept: pathlib.Path, first: int) -> pathlib.Path:
    return kept / f"{first:06d}.json"


def _read(path: pathlib.Path) -> list[dict[str, Located]]:
    answers = json.loads(files.read_bytes(path, limit=MAX_BYTES))
    return [
        {
            method: Located(np.array(pose), success, stage_ms)
            for method, (pose, success, stage_ms) in answer.items()
        }
        for answer in answers
    ]

