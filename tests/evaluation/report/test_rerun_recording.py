import sys

import numpy as np
import pytest

from jaxreloc.evaluation.report import rerun_recording
from jaxreloc.usage import UsageError
from tests.evaluation.report import planted


def test_a_missing_package_is_one_line_that_says_how_to_get_it(monkeypatch, tmp_path, rng):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UsageError, match="pip install -r requirements-rerun.txt"):
        rerun_recording.write_recording(tmp_path / "a.rrd", [planted.scene(rng)])
    assert not list(tmp_path.iterdir())


@pytest.mark.report
def test_the_recording_holds_every_camera_and_picture(tmp_path, rng):
    import rerun

    scene = planted.scene(rng, name="a room", num_database=6, num_queries=4, num_failed=1)
    path = tmp_path / "a.rrd"
    rerun_recording.write_recording(path, [scene])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.rrd"]
    recording = rerun.recording.load_recording(path)
    entities = {str(column.entity_path) for column in recording.schema().component_columns()}
    for i in range(6):
        assert f"/a\\ room/database/{i:05d}" in entities
    assert {"/a\\ room/query/truth", "/a\\ room/query/network", "/a\\ room/query/picture"} <= entities
    view = recording.view(index="query", contents="/a\\ room/query/truth")
    table = view.select().read_all()
    column = next(name for name in table.column_names if "translation" in name)
    centers = np.array([row[0] for row in table[column].to_pylist()])
    np.testing.assert_allclose(centers, scene.queries.world_from_cam[:, :3, 3], rtol=1e-5)
