"""Result files: metrics.json and one pose file a scene and method."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxreloc import files
from jaxreloc.evaluation.evaluate import MethodResult
from jaxreloc.evaluation.metrics import RECALL_THRESHOLDS, summarize
from jaxreloc.formats.pose_list import EvaluationPoses, write_evaluation_poses


def write_results(
    folder: pathlib.Path, scenes: Mapping[str, Sequence[MethodResult]], settings: Mapping[str, Any]
) -> None:
    """Writes `metrics.json` and `SCENE/METHOD.txt`, each by rename.

    A pose file has one line `name qw qx qy qz tx ty tz` (`cam_from_world`) for each localized
    query; failed queries have none.

    Args:
      scenes: the results by scene name.
      settings: what was evaluated and how, kept in metrics.json.
    """
    for scene, results in scenes.items():
        for result in results:
            found = result.success
            names = tuple(name for name, ok in zip(result.names, found, strict=True) if ok)
            poses = EvaluationPoses(names, result.world_from_query[found], None)
            write_evaluation_poses(folder / scene / f"{result.key}.txt", poses)
    metrics = {
        scene: {result.key: _figures(result) for result in results}
        for scene, results in scenes.items()
    }
    document = {"settings": dict(settings), "scenes": metrics}
    files.write_text(folder / "metrics.json", json.dumps(document, indent=2, allow_nan=False) + "\n")


def _figures(result: MethodResult) -> dict[str, Any]:
    summary = dataclasses.asdict(summarize(result.errors))
    recalls = summary.pop("recalls")
    figures = {name: value if math.isfinite(value) else None for name, value in summary.items()}
    figures["recalls"] = [
        {"position_m": metres, "rotation_deg": degrees, "recall": recall}
        for (metres, degrees), recall in zip(RECALL_THRESHOLDS, recalls, strict=True)
    ]
    figures["median_stage_ms"] = {
        stage: float(np.median(ms)) for stage, ms in result.stage_ms.items()
    }
    return figures
