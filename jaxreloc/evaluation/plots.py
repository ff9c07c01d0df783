"""Pictures of a result."""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxreloc.evaluation.evaluate import MethodResult
from jaxreloc.extras import extra
from jaxreloc.files import replacing
from jaxreloc.formats.frames import PosedFrames

with extra("eval"):
    from matplotlib.figure import Figure


def save_top_view(
    path: pathlib.Path, database: PosedFrames, queries: PosedFrames, result: MethodResult
) -> None:
    """Camera centres seen along the axis in which they vary least: database, truth, estimate."""
    everything = np.concatenate([database.world_from_cam, queries.world_from_cam])
    axes = np.sort(np.argsort(np.ptp(everything[:, :3, 3], axis=0))[1:])
    truth = queries.world_from_cam[result.success][:, axes, 3]
    estimate = result.world_from_query[result.success][:, axes, 3]
    figure = Figure(figsize=(7, 6), layout="constrained")
    plot = figure.add_subplot()
    plot.plot(*np.stack([truth, estimate]).transpose(2, 0, 1), color="0.7", linewidth=0.8, zorder=1)
    plot.scatter(*database.world_from_cam[:, axes, 3].T, s=8, color="0.6", label="database")
    plot.scatter(*truth.T, s=18, color="tab:green", label="query, true")
    plot.scatter(*estimate.T, s=18, color="tab:red", marker="x", label="query, estimated")
    plot.set_aspect("equal")
    plot.set_xlabel(f"world {'xyz'[axes[0]]}, m")
    plot.set_ylabel(f"world {'xyz'[axes[1]]}, m")
    plot.set_title(f"{queries.scene}: {result.title}")
    plot.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def save_error_curves(path: pathlib.Path, title: str, results: Sequence[MethodResult]) -> None:
    """The share of the queries whose error is below a threshold, for each method.

    Thresholds are on a logarithmic axis; a failed query is below none.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    position, rotation = figure.subplots(1, 2, sharey=True)
    for result in results:
        share = np.arange(len(result.names) + 1) / len(result.names)
        for plot, errors in (
            (position, 100 * result.errors.position_m),
            (rotation, result.errors.rotation_deg),
        ):
            found = np.sort(errors[np.isfinite(errors)])
            plot.step(
                np.concatenate([[1e-9], found, [1e9]]),
                np.append(share[: len(found) + 1], share[len(found)]),
                where="post",
                label=result.title,
            )
    for plot, label, limits in ((position, "cm", (0.3, 1000)), (rotation, "deg", (0.05, 180))):
        plot.set(xscale="log", xlim=limits, ylim=(0, 1), xlabel=f"error, {label}")
        plot.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        plot.grid(alpha=0.3)
    position.set_ylabel("share of the queries")
    position.set_title("position")
    rotation.set_title("rotation")
    rotation.legend(loc="lower right")
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
