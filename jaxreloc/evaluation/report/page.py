"""One self-contained HTML file: poses, pictures and Plotly inside, nothing fetched.

`page.html`, `page.css`, `page.js` and plotly.js, which draws, are put together with the content as
JSON. A content security policy forbids the page every request; names are shown as text and never
as markup.
"""

import base64
import html
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxreloc import files
from jaxreloc.evaluation.metrics import RECALL_THRESHOLDS
from jaxreloc.evaluation.report.content import (
    Cameras,
    PairMatches,
    QueryPictures,
    SceneContent,
    upright,
)
from jaxreloc.extras import extra

_FOLDER = pathlib.Path(__file__).parent
MAX_INLIERS = 120  # drawn of a pair
MAX_REJECTED = 60
DIGITS = 6


def write_report(
    path: pathlib.Path,
    title: str,
    scenes: Sequence[SceneContent],
    *,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Writes the report of `scenes` to `path`, by rename.

    Args:
      settings: what was run and how, shown at the end.
    """
    content = {
        "title": title,
        "settings": dict(settings or {}),
        "recallThresholds": RECALL_THRESHOLDS,
        "scenes": [_scene(scene) for scene in scenes],
    }
    files.write_text(path, render(title, content))


def render(title: str, content: Mapping[str, Any]) -> str:
    """The page; `content` must be free of NaN and infinities."""
    data = json.dumps(content, allow_nan=False, separators=(",", ":"))
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("page.css"),
        "PLOTLY": plotly_js(),
        "SCRIPT": _asset("page.js"),
        "DATA": data.replace("<", "\\u003c"),  # no name can end the script element
    }
    before, *rest = _asset("page.html").split("{{")
    for part in rest:
        name, _, after = part.partition("}}")
        before += parts[name] + after
    return before


def plotly_js() -> str:
    """The library, as one script.

    Raises:
      UsageError: the extra is missing.
    """
    with extra("eval"):
        from plotly.offline import get_plotlyjs
    return get_plotlyjs()


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _scene(scene: SceneContent) -> dict[str, Any]:
    known = scene.queries.world_from_cam is not None
    return {
        "name": scene.name,
        "uprightFromWorld": _numbers(upright(scene.database.world_from_cam)),
        "database": _cameras(scene.database),
        "queries": _cameras(scene.queries),
        "hasTruth": known,
        "matchedBy": scene.matched_by,
        "methods": [_method(scene, key) for key in scene.estimates],
        "pictures": {str(i): _picture(scene, i, p) for i, p in scene.pictures.items()},
        "thumbnails": {str(i): _data_uri(jpeg) for i, jpeg in scene.db_thumbnails.items()},
    }


def _method(scene: SceneContent, key: str) -> dict[str, Any]:
    estimates, errors, summary = scene.estimates[key], scene.errors(key), scene.summary(key)
    method = {
        "key": key,
        "title": estimates.title,
        "poses": _poses(np.where(estimates.success[:, None, None], estimates.world_from_query, 0)),
        "success": estimates.success.astype(int).tolist(),
        "agreeing": [inliers.astype(int).tolist() for inliers in estimates.agreeing],
        "positionStd": _numbers(estimates.position_std),
    }
    if errors is not None:
        method |= {
            "positionErrors": _numbers(errors.position_m),
            "rotationErrors": _numbers(errors.rotation_deg),
            "medianPosition": _number(summary.median_position_m),
            "medianRotation": _number(summary.median_rotation_deg),
            "recalls": _numbers(summary.recalls),
        }
    return method


def _cameras(cameras: Cameras) -> dict[str, Any]:
    size = cameras.image_sizes.astype(float)
    K = cameras.intrinsics
    # Tangents of the image's left, top, right and bottom edge.
    frame = np.stack(
        [
            (-0.5 - K[:, 0, 2]) / K[:, 0, 0],
            (-0.5 - K[:, 1, 2]) / K[:, 1, 1],
            (size[:, 0] - 0.5 - K[:, 0, 2]) / K[:, 0, 0],
            (size[:, 1] - 0.5 - K[:, 1, 2]) / K[:, 1, 1],
        ],
        axis=1,
    )
    known = cameras.world_from_cam is not None
    return {
        "names": list(cameras.names),
        "poses": _poses(cameras.world_from_cam) if known else None,
        "frames": _numbers(frame),
        "sizes": cameras.image_sizes.astype(int).ravel().tolist(),
    }


def _picture(scene: SceneContent, index: int, pictures: QueryPictures) -> dict[str, Any]:
    matches = None
    if pictures.matches is not None:
        query_size = scene.queries.image_sizes[index]
        matches = [
            _matches(pair, query_size, scene.database.image_sizes[i])
            for i, pair in zip(pictures.neighbors, pictures.matches, strict=True)
        ]
    return {
        "thumbnail": _data_uri(pictures.thumbnail),
        "neighbors": list(pictures.neighbors),
        "matches": matches,
    }


def _matches(pair: PairMatches, query_size: np.ndarray, db_size: np.ndarray) -> dict[str, Any]:
    """Counts, and evenly chosen matches `xq yq xd yd` in ten-thousandths of the images' sides."""
    relative = np.hstack([(pair.query_px + 0.5) / query_size, (pair.db_px + 0.5) / db_size])
    points = np.rint(1e4 * relative).astype(int)

    def some(chosen: np.ndarray, at_most: int) -> list[int]:
        rows = np.flatnonzero(chosen)
        if len(rows) > at_most:
            rows = rows[np.linspace(0, len(rows) - 1, at_most).astype(int)]
        return points[rows].ravel().tolist()

    return {
        "numInliers": int(pair.inliers.sum()),
        "num": len(points),
        "inliers": some(pair.inliers, MAX_INLIERS),
        "rejected": some(~pair.inliers, MAX_REJECTED),
    }


def _poses(matrices: np.ndarray) -> list[float | None]:
    """The upper three rows of each `a_from_b`, row by row."""
    return _numbers(matrices[:, :3])


def _numbers(values: Any) -> list[float | None]:
    return [_number(value) for value in np.asarray(values, np.float64).ravel()]


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
