"""The result table that run_eval.py prints."""

from collections.abc import Sequence

import numpy as np
import tabulate

from jaxreloc.evaluation.evaluate import MethodResult
from jaxreloc.evaluation.metrics import RECALL_THRESHOLDS, summarize
from jaxreloc.localization.clock import STAGES


def format_results(title: str, results: Sequence[MethodResult]) -> str:
    """Two blocks under one title: accuracy by method, then median milliseconds by stage."""
    accuracy = [
        [
            result.title,
            f"{summary.median_position_m:.3f}",
            f"{summary.median_rotation_deg:.2f}",
            *(f"{100 * recall:.0f}%" for recall in summary.recalls),
            summary.num_failed,
        ]
        for result, summary in ((r, summarize(r.errors)) for r in results)
    ]
    headers = ["method", "t, m", "r, deg"]
    headers += [f"{100 * m:.0f} cm, {deg:.0f} deg" for m, deg in RECALL_THRESHOLDS] + ["failed"]
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
            _table(accuracy, headers),
            "",
            "ms per query, median",
            _table(times, ["method", *STAGES, "total"]),
        ]
    )


def _table(rows: list[list], headers: list[str]) -> str:
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate.tabulate(rows, headers, colalign=align, disable_numparse=True)
