"""Evaluation of a saved network on the scenes of a dataset: what run_eval.py does."""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tqdm

from jaxreloc.data import datasets
from jaxreloc.evaluation import evaluate, plots, results, tables
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.network import InferenceNetwork
from jaxreloc.localization.scene_map import build_scene_map


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to evaluate and how."""

    dataset: str
    scenes: tuple[str, ...]
    data_path: str | None = None  # folder of the user's photographs (posed_images)
    data_dir: str | None = None  # where TFDS keeps prepared datasets
    num_neighbors: int = 5
    fusion_method: str = "robust"
    methods: tuple[str, ...] = tuple(evaluate.METHODS)


def evaluate_dataset(
    network: InferenceNetwork, settings: Settings, out: pathlib.Path, provenance: Mapping[str, Any]
) -> str:
    """Evaluates every scene, writes the result files into `out` and returns the table.

    With several scenes the table pools their queries, after one table a scene.

    Args:
      provenance: where the network came from, kept in metrics.json.
    """
    by_scene = {scene: _evaluate_scene(network, settings, scene, out) for scene in settings.scenes}
    results.write_results(out, by_scene, dataclasses.asdict(settings) | dict(provenance))
    blocks = [tables.format_results(scene, methods) for scene, methods in by_scene.items()]
    if len(by_scene) > 1:
        pooled = evaluate.pool(list(by_scene.values()))
        blocks.append(tables.format_results(f"all {len(by_scene)} scenes", pooled))
    return "\n\n".join(blocks)


def _evaluate_scene(
    network: InferenceNetwork, settings: Settings, scene: str, out: pathlib.Path
) -> Sequence[evaluate.MethodResult]:
    database, queries = (
        datasets.load_frames(
            settings.dataset,
            scene,
            split,
            data_dir=settings.data_dir,
            data_path=settings.data_path,
        )
        for split in ("database", "query")
    )
    scene_map = build_scene_map(database, network, progress=_progress(f"{scene}: database", "batch"))
    localizer = Localizer(
        scene_map,
        num_neighbors=settings.num_neighbors,
        fusion_method=settings.fusion_method,
    )
    methods = evaluate.evaluate_scene(
        localizer,
        database,
        queries,
        methods=settings.methods,
        progress=_progress(f"{scene}: queries", "query"),
    )
    for method in methods:
        plots.save_top_view(out / scene / f"{method.key}.png", database, queries, method)
    return methods


def _progress(label: str, unit: str):
    def wrap(iterable):
        return tqdm.tqdm(iterable, label, unit=unit, leave=False, disable=not sys.stderr.isatty())

    return wrap
