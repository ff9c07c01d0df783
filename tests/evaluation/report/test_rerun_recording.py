import numpy as np
import pytest

from jaxreloc.evaluation.report import rerun_recording
from tests.evaluation.report import planted


@pytest.mark.report
def test_the_recording_holds_every_camera_and_picture(tmp_path, rng):
    from rerun.chunk import RrdReader

    scene = planted.scene(rng, name="a room", num_database=6, num_queries=4, num_failed=1)
    path = tmp_path / "a.rrd"
    rerun_recording.write_recording(path, [scene])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.rrd"]
    chunks: dict[str, list] = {}
    for chunk in RrdReader(path).stream():
        entity = str(chunk.entity_path).replace("\\ ", " ")
        chunks.setdefault(entity, []).append(chunk.to_record_batch())

    def column(entity, name):
        batches = (b for b in chunks[f"/a room/{entity}"] if name in b.schema.names)
        rows = (batch.column(name).to_pylist() for batch in batches)
        return [row[0] for of_batch in rows for row in of_batch if row]

    for i in range(6):
        center = column(f"database/{i:05d}", "Transform3D:translation")
        np.testing.assert_allclose(center, [scene.database.world_from_cam[i, :3, 3]], rtol=1e-5)
    truth = column("query/truth", "Transform3D:translation")
    np.testing.assert_allclose(truth, scene.queries.world_from_cam[:, :3, 3], rtol=1e-5)
    found = scene.estimates["network"].world_from_query[:3, :3, 3]
    np.testing.assert_allclose(column("query/network", "Transform3D:translation"), found, rtol=1e-5)
    errors = column("error/network/position_m", "Scalars:scalars")
    np.testing.assert_allclose(errors, scene.errors("network").position_m[:3], rtol=1e-6)
    pictures = column("query/picture", "EncodedImage:blob")
    assert [bytes(x) for x in pictures] == [scene.pictures[i].thumbnail for i in range(4)]
