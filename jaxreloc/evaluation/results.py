"""Result files: numbers as JSON and CSV, and one pose file a scene and method."""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxreloc import files
from jaxreloc.evaluation.evaluate import MethodResult
from jaxreloc.evaluation.metrics import RECALL_THRESHOLDS, PoseErrors, summarize
from jaxreloc.formats.readers.pose_list import EvaluationPoses, write_evaluation_poses

# Of error_curves.csv: 20 thresholds a decade, 1 mm to 100 m and 0.01 to 180 degrees.
CURVE_THRESHOLDS = {
    "position_m": np.logspace(-3, 2, 101),
    "rotation_deg": np.append(np.logspace(-2, 2, 81), 180.0),
}


def write_results(
    folder: pathlib.Path,
    scenes: Mapping[str, Sequence[MethodResult]],
    settings: Mapping[str, Any],
    fusions: Mapping[str, Mapping[str, PoseErrors]] = {},
) -> None:
    """Writes what was measured, each file by rename.

        metrics.json               medians, recalls and milliseconds of each scene and method
        SCENE/METHOD.txt           `name qw qx qy qz tx ty tz` (`cam_from_world`), localized queries
        SCENE/errors.csv           name, then position_m and rotation_deg of each method
        SCENE/error_curves.csv     method, quantity, threshold, share of the queries below it

    Args:
      scenes: the results by scene name.
      settings: what was evaluated and how, kept in metrics.json.
      fusions: by scene and name, kept there, too.
    """
    for scene, results in scenes.items():
        for result in results:
            found = result.success
            names = tuple(name for name, ok in zip(result.names, found, strict=True) if ok)
            poses = EvaluationPoses(names, result.world_from_query[found], None)
            write_evaluation_poses(folder / scene / f"{result.key}.txt", poses)
        _write_csv(folder / scene / "errors.csv", _error_rows(results))
        _write_csv(folder / scene / "error_curves.csv", _curve_rows(results))
    metrics = {
        scene: {result.key: _figures(result) for result in results}
        for scene, results in scenes.items()
    }
    document = {"settings": dict(settings), "scenes": metrics}
    document["fusions"] = {
        scene: {name: _error_figures(errors) for name, errors in by_name.items()}
        for scene, by_name in fusions.items()
    }
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    files.write_text(folder / "metrics.json", text)


def write_evaluator_config(
    path: pathlib.Path,
    folder: pathlib.Path,
    scenes: Sequence[str],
    methods: Mapping[str, str],
    *,
    truth: str,
) -> None:
    """A config with which the public evaluator of 7-Scenes measures the pose files of `folder`.

    In a clone of github.com/tsattler/visloc_pseudo_gt_limitations:
    `python evaluate_estimates.py PATH`.

    Args:
      methods: titles by key.
      truth: its ground truth, "dslam" or "sfm".
    """
    folder = folder.absolute()
    document = {
        "name": "7Scenes",
        "folder": "7scenes_source",
        "image_width": 640,
        "image_height": 480,
        "scenes": [
            {
                "name": scene,
                "folder": scene,
                "pgt": f"pgt/{truth}/7scenes/{scene}_test.txt",
                "estimates": [
                    {"algo": title, "estimated_poses": str(folder / scene / f"{key}.txt")}
                    for key, title in methods.items()
                ],
            }
            for scene in scenes
        ],
    }
    files.write_text(path, json.dumps(document, indent=2) + "\n")


def _error_rows(results: Sequence[MethodResult]) -> list[list[Any]]:
    """`inf` for a failed query."""
    header = ["name"]
    header += [f"{r.key}_{what}" for r in results for what in ("position_m", "rotation_deg")]
    columns = [
        values for r in results for values in (r.errors.position_m, r.errors.rotation_deg)
    ]
    return [header, *map(list, zip(results[0].names, *columns, strict=True))]


def _curve_rows(results: Sequence[MethodResult]) -> list[list[Any]]:
    rows: list[list[Any]] = [["method", "quantity", "threshold", "share"]]
    for result in results:
        for quantity, thresholds in CURVE_THRESHOLDS.items():
            errors = np.sort(getattr(result.errors, quantity))
            shares = np.searchsorted(errors, thresholds, side="left") / len(errors)
            rows += [
                [result.key, quantity, f"{threshold:.5g}", f"{share:.6g}"]
                for threshold, share in zip(thresholds, shares, strict=True)
            ]
    return rows


def _write_csv(path: pathlib.Path, rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_text(path, text.getvalue())


def _figures(result: MethodResult) -> dict[str, Any]:
    median_ms = {stage: float(np.median(ms)) for stage, ms in result.stage_ms.items()}
    return _error_figures(result.errors) | {"median_stage_ms": median_ms}


def _error_figures(errors: PoseErrors) -> dict[str, Any]:
    summary = dataclasses.asdict(summarize(errors))
    recalls = summary.pop("recalls")
    figures = {name: value if math.isfinite(value) else None for name, value in summary.items()}
    figures["recalls"] = [
        {"position_m": metres, "rotation_deg": degrees, "recall": recall}
        for (metres, degrees), recall in zip(RECALL_THRESHOLDS, recalls, strict=True)
    ]
    return figures
