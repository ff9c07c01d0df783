"""The result tables that run_eval.py prints."""

from collections.abc import Mapping, Sequence

import numpy as np
import tabulate

from jaxreloc.evaluation.baselines.published import Median, PublishedResult
from jaxreloc.evaluation.evaluate import MethodResult
from jaxreloc.evaluation.metrics import RECALL_THRESHOLDS, PoseErrors, Summary, summarize
from jaxreloc.localization.clock import STAGES

TRAINED_ON = {
    "scene": "each scene",
    "dataset": "the seven scenes together",
    "elsewhere": "other data",
}


def format_results(title: str, results: Sequence[MethodResult]) -> str:
    """Two blocks under one title: accuracy by method, then median milliseconds by stage."""
    accuracy = {result.title: summarize(result.errors) for result in results}
    times = [
        [
            result.title,
            *(f"{np.median(result.stage_ms[stage]):.1f}" for stage in STAGES),
            f"{np.median(sum(result.stage_ms.values())):.1f}",
        ]
        for result in results
    ]
    return "\n".join(
        [
            f"{title}: {len(results[0].names)} queries; median errors, recalls",
            format_summaries("method", accuracy),
            "",
            "ms per query, median",
            _table(times, ["method", *STAGES, "total"]),
        ]
    )


def format_summaries(what: str, summaries: Mapping[str, Summary]) -> str:
    """A row of medians, recalls and failures each; `what` heads the names' column."""
    rows = [
        [
            name,
            f"{summary.median_position_m:.3f}",
            f"{summary.median_rotation_deg:.2f}",
            *(f"{100 * recall:.0f}%" for recall in summary.recalls),
            summary.num_failed,
        ]
        for name, summary in summaries.items()
    ]
    headers = [what, "t, m", "r, deg"]
    headers += [f"{100 * m:.0f} cm, {deg:.0f} deg" for m, deg in RECALL_THRESHOLDS] + ["failed"]
    return _table(rows, headers)


def format_medians(
    by_scene: Mapping[str, Sequence[MethodResult]], published: Sequence[PublishedResult] = ()
) -> str:
    """Median errors, a column a scene and their average, with published rows below one's own.

    The average is of the scenes' medians, as papers report it. Published rows are shown for the
    scenes of `by_scene`; every one comes with its reference and the place it was read.
    """
    scenes = list(by_scene)
    rows = [
        [
            methods[0].title,
            *_cells([_medians(method.errors) for method in methods], None),
        ]
        for methods in zip(*by_scene.values(), strict=True)
    ]
    for result in published:
        average = result.average if len(scenes) == len(result.medians) else None
        rows.append(
            [result.method, *_cells([result.median(scene) for scene in scenes], average)]
        )
    headers = ["t, m; r, deg", *scenes] + ["average"] * (len(scenes) > 1)
    notes = [
        f"  {result.method}: {result.reference} (read in {result.source}); trained on "
        + TRAINED_ON[result.trained_on]
        for result in published
    ]
    if notes:
        notes.insert(0, "Published, not measured here; against the original ground truth:")
    return "\n".join(["median errors by scene", _table(rows, headers), *notes])


def format_fusions(by_scene: Mapping[str, Mapping[str, PoseErrors]]) -> str:
    """Median errors, a row a fusion with so many neighbours, a column a scene and their average."""
    rows = [
        [name, *_cells([_medians(errors[name]) for errors in by_scene.values()], None)]
        for name in next(iter(by_scene.values()))
    ]
    headers = ["t, m; r, deg", *by_scene] + ["average"] * (len(by_scene) > 1)
    return "\n".join(["the network's relative poses of N neighbours, fused", _table(rows, headers)])


def _medians(errors: PoseErrors) -> Median:
    summary = summarize(errors)
    return summary.median_position_m, summary.median_rotation_deg


def _cells(medians: list[Median | None], average: Median | None) -> list[str]:
    """One a scene and, with several scenes, their average, unless it is given."""
    if len(medians) > 1:
        if average is None and None not in medians:
            average = tuple(np.mean(medians, axis=0))
        medians = [*medians, average]
    return ["-" if median is None else "{:.2f}; {:.2f}".format(*median) for median in medians]


def _table(rows: list[list], headers: list[str]) -> str:
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate.tabulate(rows, headers, colalign=align, disable_numparse=True)
