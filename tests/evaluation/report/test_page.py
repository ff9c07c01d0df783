import dataclasses
import json
import re
import sys

import numpy as np
import pytest

from jaxreloc.evaluation.report import page
from jaxreloc.evaluation.report.views import Views
from jaxreloc.usage import UsageError
from tests.evaluation.report import planted


def written(tmp_path, scenes, **arguments):
    path = tmp_path / "report.html"
    page.write_report(path, "A title", scenes, **arguments)
    return path.read_text(encoding="utf-8")


def without_plotly(text):
    """The page but for the library, which names addresses that the policy forbids it to fetch."""
    assert text.count(page.plotly_js()) == 1
    return text.replace(page.plotly_js(), "")


def data(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_nothing_is_fetched(tmp_path, rng):
    text = without_plotly(written(tmp_path, [planted.scene(rng)]))
    outside = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//[a-z]|<link(?! rel=\"icon\")|@import|url\(", outside)
    assert "default-src 'none'" in text and "{{" not in text
    assert text.count("<script") == text.count("</script>") == 3  # data, Plotly, ours


def test_without_plotly_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UsageError, match=r"plotly.*; pip install 'jaxreloc\[eval\]'"):
        Views(report=tmp_path / "report.html").check()
    Views().check()


def test_numbers_survive(tmp_path, rng):
    scene = planted.scene(rng, num_queries=7, num_failed=2)
    shown = data(written(tmp_path, [scene], settings={"fusion": "robust"}))
    assert shown["title"] == "A title" and shown["settings"] == {"fusion": "robust"}
    (content,) = shown["scenes"]
    poses = np.array(content["database"]["poses"]).reshape(-1, 3, 4)
    np.testing.assert_allclose(poses, scene.database.world_from_cam[:, :3], rtol=1e-5)
    network = next(m for m in content["methods"] if m["key"] == "network")
    summary = scene.summary("network")
    assert network["medianPosition"] == pytest.approx(summary.median_position_m, rel=1e-5)
    assert network["positionErrors"][-2:] == [None, None]
    assert network["success"] == [1] * 5 + [0] * 2
    # 64 x 48 pixels of f = 50 about the centre (31.5, 23.5)
    np.testing.assert_allclose(content["queries"]["frames"][:4], [-0.64, -0.48, 0.64, 0.48])


def test_matches_are_relative_to_the_images_and_inliers_apart(rng, tmp_path):
    scene = planted.scene(rng)
    corners = planted.PairMatches(
        query_px=np.array([[-0.5, -0.5], [63.5, 47.5], [31.5, 23.5]]),
        db_px=np.array([[31.5, -0.5], [-0.5, 23.5], [63.5, 47.5]]),
        inliers=np.array([True, False, True]),
    )
    picture = dataclasses.replace(scene.pictures[0], matches=(corners,) * planted.NEIGHBORS)
    scene = dataclasses.replace(scene, pictures={0: picture})
    matches = data(written(tmp_path, [scene]))["scenes"][0]["pictures"]["0"]["matches"][0]
    assert (matches["numInliers"], matches["num"]) == (2, 3)
    assert matches["inliers"] == [0, 0, 5000, 0, 5000, 5000, 10000, 10000]
    assert matches["rejected"] == [10000, 10000, 0, 5000]


def test_at_most_so_many_matches_are_drawn_and_all_are_counted(rng, tmp_path):
    scene = planted.scene(rng)
    many = planted.pair_matches(rng, n=2000)
    picture = dataclasses.replace(scene.pictures[0], matches=(many,) * planted.NEIGHBORS)
    scene = dataclasses.replace(scene, pictures={0: picture})
    matches = data(written(tmp_path, [scene]))["scenes"][0]["pictures"]["0"]["matches"][0]
    assert len(matches["inliers"]) == 4 * page.MAX_INLIERS
    assert len(matches["rejected"]) == 4 * page.MAX_REJECTED
    assert (matches["numInliers"], matches["num"]) == (many.inliers.sum(), 2000)


def test_a_name_cannot_become_markup(rng, tmp_path):
    evil = "</script><script>alert(1)</script>"
    text = written(tmp_path, [planted.scene(rng, name=evil)])
    assert evil not in text and data(text)["scenes"][0]["name"] == evil
    assert page.render("<b>", {}).count("&lt;b&gt;") == 1


def test_without_truth_or_matches_there_are_no_errors(rng, tmp_path):
    (content,) = data(written(tmp_path, [planted.scene(rng, truth=False, matches=False)]))["scenes"]
    assert content["hasTruth"] is False and content["queries"]["poses"] is None
    assert "positionErrors" not in content["methods"][0]
    assert content["pictures"]["0"]["matches"] is None
