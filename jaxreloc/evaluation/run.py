"""Evaluation of a saved network on the scenes of a dataset: what run_eval.py does."""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tqdm

from jaxreloc.data import datasets
from jaxreloc.evaluation import evaluate, plots, results, tables
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.encoding import encode_frames
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.match_network import MatchNetwork
from jaxreloc.localization.network import InferenceNetwork, load_inference_network
from jaxreloc.localization.pretrained_network import pretrained_network
from jaxreloc.localization.scene_map import SceneMap
from jaxreloc.usage import check_choice


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to evaluate and how."""

    dataset: str
    scenes: tuple[str, ...]  # ("all",) means every scene of the dataset
    data_path: str | None = None  # folder of the user's photographs (posed_images)
    data_dir: str | None = None  # where TFDS keeps prepared datasets
    skip_bad_frames: bool = False
    num_neighbors: int = 5
    fusion_method: str = "robust"
    methods: tuple[str, ...] = tuple(evaluate.METHODS)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene's two sides."""

    name: str
    database: PosedFrames
    queries: PosedFrames


def evaluate_network(
    network_path: pathlib.Path | None,
    settings: Settings,
    out: pathlib.Path,
    *,
    model: Mapping[str, Any] | None = None,
) -> str:
    """Evaluates every scene, writes the result files into `out` and returns the table.

    With several scenes there is a table for each, then one that pools their queries.

    Args:
      network_path: a workdir or the folder of a saved network; None takes the network that needs
        no training (`pretrained_network`).
      model: `config.model` that the network has to fit, if the caller insists on one.

    Raises:
      UsageError: a name, file or network is not what it should be.
    """
    for method in settings.methods:
        check_choice("method", method, evaluate.METHODS)
    scenes = load_evaluation_scenes(settings)
    trained = None if network_path is None else load_inference_network(network_path, model)
    by_scene = {
        scene.name: _evaluate_scene(
            trained or pretrained_network(scene.database.image_sizes), settings, scene, out
        )
        for scene in scenes
    }
    provenance = {"network": str(network_path or "pretrained")}
    results.write_results(out, by_scene, dataclasses.asdict(settings) | provenance)
    blocks = [tables.format_results(name, methods) for name, methods in by_scene.items()]
    if len(by_scene) > 1:
        pooled = evaluate.pool(list(by_scene.values()))
        blocks.append(tables.format_results(f"all {len(by_scene)} scenes", pooled))
    return "\n\n".join(blocks)


def load_evaluation_scenes(settings: Settings) -> list[Scene]:
    """Database and queries of the scenes; pictures are not read yet."""
    source = {"data_dir": settings.data_dir, "data_path": settings.data_path}
    names = settings.scenes
    if names == ("all",):
        names = datasets.scene_names(settings.dataset, **source)
    load = functools.partial(
        datasets.load_frames, settings.dataset, skip_bad_frames=settings.skip_bad_frames, **source
    )
    return [Scene(name, load(name, "database"), load(name, "query")) for name in names]


def _evaluate_scene(
    network: InferenceNetwork | MatchNetwork, settings: Settings, scene: Scene, out: pathlib.Path
) -> Sequence[evaluate.MethodResult]:
    images = encode_frames(
        scene.database, network, progress=_progress(f"{scene.name}: database", "image")
    )
    localizer = Localizer(
        SceneMap.from_images(network, images),
        num_neighbors=settings.num_neighbors,
        fusion_method=settings.fusion_method,
    )
    methods = evaluate.evaluate_scene(
        localizer,
        scene.database,
        scene.queries,
        methods=settings.methods,
        progress=_progress(f"{scene.name}: queries", "query"),
    )
    for method in methods:
        path = out / scene.name / f"{method.key}.png"
        plots.save_top_view(path, scene.database, scene.queries, method)
    return methods


def _progress(label: str, unit: str):
    def wrap(iterable):
        return tqdm.tqdm(iterable, label, unit=unit, leave=False, disable=not sys.stderr.isatty())

    return wrap
