"""Maps as pycolmap and nerfstudio's readers see them."""

import json

import numpy as np
import pycolmap
import pytest
import trimesh

from jaxreloc.localization.care.map_export import export_map
from jaxreloc.localization.care.map_points import scene_points
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.care.known_maps import SavedOracle, encoded, in_memory
from tests.localization.fakes import MatchingOracle, OracleNetwork, looking_frames

COUNT = 12
BALL = MatchingOracle.BALL
WIDE = np.array([0.9, 0.7])  # the oracle's pictures, on the plane z = 1


@pytest.fixture
def scene_map(rng):
    images = encoded(rng, looking_frames(rng, COUNT))
    # The oracle sees rays up to 0.45 and 0.35 from the middle, and more in others.
    K = np.array([[300.0, 0, 199.5], [0, 300, 149.5], [0, 0, 1]])
    images = type(images)(
        **{
            **vars(images),
            "intrinsics": np.tile(K, (COUNT, 1, 1)),
            "image_sizes": np.tile([400, 300], (COUNT, 1)),
        }
    )
    return in_memory(rng, images)


def test_points_lie_where_two_images_see_them(scene_map):
    points = scene_points(scene_map)
    assert len(points.positions) > 150
    off = np.abs(np.linalg.norm(points.positions, axis=1) - BALL)
    assert np.median(off) < 0.03 * BALL and np.quantile(off, 0.95) < 0.2 * BALL
    seen = np.bincount(points.point_of, minlength=len(points.positions))
    assert seen.min() >= 2
    assert len({*zip(points.point_of, points.image_of)}) == len(points.point_of)


def test_pycolmap_opens_the_model(scene_map, tmp_path):
    line = export_map(scene_map, tmp_path / "model", "colmap")
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    assert f"{COUNT} images and {model.num_points3D()} points" in line
    assert model.num_reg_images() == COUNT and model.num_cameras() == 1
    assert model.num_points3D() > 150 and model.compute_mean_track_length() >= 2
    assert model.compute_mean_reprojection_error() < 1.0  # pixels; the oracle's are 0.2 each way
    for image in model.images.values():
        world_from_cam = image.cam_from_world().inverse().matrix()
        row = scene_map.names.index(image.name)
        np.testing.assert_allclose(world_from_cam, scene_map.world_from_db[row, :3], atol=1e-6)


def test_nerfstudio_gets_frames_and_points(scene_map, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in scene_map.names:
        (photographs / name).touch()
    export_map(scene_map, tmp_path / "out", "nerfstudio", images=photographs)
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert len(content["frames"]) == COUNT
    for frame in content["frames"]:
        assert (tmp_path / "out" / frame["file_path"]).resolve().parent == photographs
    cloud = trimesh.load(tmp_path / "out" / content["ply_file_path"])
    off = np.abs(np.linalg.norm(cloud.vertices, axis=1) - BALL)
    assert len(off) > 150 and np.median(off) < 0.03 * BALL
    assert cloud.colors.shape == (len(cloud.vertices), 4)


def test_a_map_without_depth_has_no_points(rng, tmp_path):
    images = encoded(rng, looking_frames(rng, 5))
    line = export_map(SceneMap.from_images(OracleNetwork(), images), tmp_path / "o", "colmap")
    assert "5 images and 0 points (the map knows no depths)" in line
    assert pycolmap.Reconstruction(str(tmp_path / "o")).num_reg_images() == 5
    assert scene_points(SceneMap.from_images(SavedOracle(rng), images)) is None


def test_mistakes_write_nothing(scene_map, tmp_path):
    with pytest.raises(UsageError, match="12 of the map's 12 images are not there"):
        export_map(scene_map, tmp_path / "out", "nerfstudio", images=tmp_path)
    with pytest.raises(UsageError, match="unknown format 'ply'; known: colmap, nerfstudio"):
        export_map(scene_map, tmp_path / "out", "ply")
    with pytest.raises(UsageError, match="exists; --out names the new folder"):
        export_map(scene_map, tmp_path, "colmap")
    assert list(tmp_path.iterdir()) == []
