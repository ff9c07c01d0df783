import re

import numpy as np

from jaxreloc.evaluation.baselines.published import SEVEN_SCENES
from jaxreloc.evaluation.evaluate import MethodResult
from jaxreloc.evaluation.metrics import PoseErrors
from jaxreloc.evaluation.tables import format_fusions, format_medians
from jaxreloc.formats.readers.seven_scenes import SCENES


def result(key, position, rotation):
    n = len(position)
    return MethodResult(
        key=key,
        names=tuple(map(str, range(n))),
        world_from_query=np.tile(np.eye(4), (n, 1, 1)),
        success=np.isfinite(position),
        errors=PoseErrors(np.array(position, float), np.array(rotation, float)),
        stage_ms={},
    )


def cells(table, name):
    line = next(line for line in table.splitlines() if line.startswith(name))
    return re.split(r"\s{2,}", line.strip())[1:]


def test_the_average_is_of_the_scenes_medians():
    by_scene = {
        "a": [result("network", [0.1, 0.2, 0.9], [1, 2, 30])],
        "b": [result("network", [0.4], [6])],
    }
    table = format_medians(by_scene)
    assert cells(table, "network") == ["0.20; 2.00", "0.40; 6.00", "0.30; 4.00"]
    assert "Published" not in table


def test_a_scene_that_failed_makes_the_average_infinite():
    by_scene = {"a": [result("sift", [np.inf], [np.inf])], "b": [result("sift", [0.4], [6])]}
    row = cells(format_medians(by_scene), "SIFT + essential matrix")
    assert row == ["inf; inf", "0.40; 6.00", "inf; inf"]


def test_published_rows_stand_below_for_the_scenes_asked_for():
    by_scene = {"stairs": [result("network", [0.1], [1])], "chess": [result("network", [0.2], [2])]}
    table = format_medians(by_scene, SEVEN_SCENES)
    paper = cells(table, "the paper (Laskar et al.)")
    assert paper == ["0.27; 11.82", "0.13; 6.46", "0.20; 9.14"]
    for published in SEVEN_SCENES:
        assert f"{published.method}: {published.reference} (read in {published.source})" in table
    whole = format_medians({s: [result("network", [0.1], [1])] for s in SCENES}, SEVEN_SCENES)
    row = cells(whole, "Reloc3r-512")
    assert row[-1] == "0.04; 1.02" and row[4:6] == ["-", "-"]


def test_fusions_have_a_row_each_and_an_average_over_scenes():
    def errors(*position):
        return PoseErrors(np.array(position), 10 * np.array(position))

    by_scene = {
        "a": {"paper, N = 1": errors(0.1, 0.2, 0.9), "robust, N = 1": errors(0.5)},
        "b": {"paper, N = 1": errors(0.4), "robust, N = 1": errors(0.3)},
    }
    table = format_fusions(by_scene)
    assert cells(table, "paper, N = 1") == ["0.20; 2.00", "0.40; 4.00", "0.30; 3.00"]
    assert cells(table, "robust, N = 1") == ["0.50; 5.00", "0.30; 3.00", "0.40; 4.00"]
    assert cells(format_fusions({"b": by_scene["b"]}), "paper, N = 1") == ["0.40; 4.00"]
