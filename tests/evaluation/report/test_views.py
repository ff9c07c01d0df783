import json
import re

import numpy as np
import pytest

from jaxreloc.evaluation.report.views import MapViews, Views
from jaxreloc.localization.jobs.querying import LocalizedImage
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.fakes import OracleNetwork, oracle_frames


@pytest.fixture
def queries(rng):
    """A map and its answers to three pictures."""
    scene_map = SceneMap.from_images(
        OracleNetwork(), encode_frames(oracle_frames(rng, 21), OracleNetwork())
    )
    localizer, frames = Localizer(scene_map), oracle_frames(rng, 3)
    localized = [
        LocalizedImage(name, image, frames.intrinsics[0], localizer(image, frames.intrinsics[0]))
        for name, image in zip(frames.names, frames.images, strict=True)
    ]
    return scene_map, frames, localized


def shown(path):
    (scene,) = json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])["scenes"]
    return scene


def test_queries_of_a_map_are_shown_where_they_were_found(queries, tmp_path, capsys):
    scene_map, frames, localized = queries
    path = tmp_path / "report.html"
    with MapViews(scene_map, Views(report=path), "office", {"fusion": "robust"}) as views:
        for query in localized:
            views.keep(query)
    scene = shown(path)
    assert scene["name"] == "office" and not scene["hasTruth"]
    assert scene["queries"]["names"] == list(frames.names)
    assert len(scene["database"]["names"]) == len(scene_map)
    (method,) = scene["methods"]
    for i, found in enumerate(np.array(method["poses"]).reshape(-1, 3, 4)):
        if method["success"][i]:
            np.testing.assert_allclose(found, frames.world_from_cam[i, :3], atol=0.02)
    assert sum(method["success"]) > 0
    neighbors = {str(j) for picture in scene["pictures"].values() for j in picture["neighbors"]}
    assert set(scene["thumbnails"]) == neighbors
    assert f"{path}: " in capsys.readouterr().err


def test_what_was_localized_is_written_also_if_a_picture_could_not_be_read(queries, tmp_path):
    scene_map, _, localized = queries
    path = tmp_path / "report.html"
    with pytest.raises(UsageError, match="mend it"):
        with MapViews(scene_map, Views(report=path), "office", {}) as views:
            views.keep(localized[0])
            raise UsageError("a.png: mend it")
    assert len(shown(path)["queries"]["names"]) == 1


def test_nothing_is_written_of_nothing_or_unasked(queries, tmp_path):
    scene_map, _, localized = queries
    with MapViews(scene_map, Views(report=tmp_path / "a.html"), "office", {}):
        pass
    with MapViews(scene_map, Views(), "office", {}) as views:
        views.keep(localized[0])
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="is a folder"):
        Views(report=tmp_path).check()
