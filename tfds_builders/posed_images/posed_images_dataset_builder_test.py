import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreloc.data.datasets import load_frames
from jaxreloc.usage import UsageError
from tfds_builders.posed_images.posed_images_dataset_builder import Builder, PosedImagesConfig

DUMMY_DATA = pathlib.Path(__file__).parent / "dummy_data"
SCENES = sorted(path.name for path in DUMMY_DATA.iterdir())


class AllScenesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"database": 25, "query": 6}


class OneFolderTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [
        PosedImagesConfig(name="depth", path=str(DUMMY_DATA / "7-scenes"), depth=True)
    ]
    SPLITS = {"database": 5, "query": 1}


def build(data_dir, config, **kwargs):
    builder = Builder(data_dir=data_dir, config=config, **kwargs)
    builder.download_and_prepare()
    return builder


@pytest.mark.parametrize("scene", SCENES)
def test_the_build_holds_what_the_reader_reads(tmp_path, scene):
    folder = DUMMY_DATA / scene
    builder = build(tmp_path, PosedImagesConfig(name=scene, path=str(folder), query_every=2))
    for split in ("database", "query"):
        frames = load_frames("posed_images", scene, split, data_path=folder, query_every=2)
        built = {example["image_id"].decode(): example for example in builder.as_data_source(split)}
        assert set(built) == {f"{scene}/{name}" for name in frames.names}
        for i, name in enumerate(frames.names):
            example = built[f"{scene}/{name}"]
            np.testing.assert_array_equal(example["image"], frames.images[i])
            np.testing.assert_allclose(
                example["world_from_cam"], frames.world_from_cam[i], atol=1e-6
            )
            np.testing.assert_allclose(example["intrinsics"], frames.intrinsics[i], rtol=1e-6)
            assert example["scene"].decode() == scene


def test_builds_of_different_names_do_not_mix(tmp_path):
    one = build(tmp_path, PosedImagesConfig(name="one", path=str(DUMMY_DATA / "csv")))
    two = build(tmp_path, PosedImagesConfig(name="two", path=str(DUMMY_DATA / "colmap")))
    scenes = [builder.as_data_source("query")[0]["scene"] for builder in (one, two)]
    assert scenes == [b"csv", b"colmap"]


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UsageError, match="none: no such folder"):
        build(tmp_path, PosedImagesConfig(name="none", path=str(tmp_path / "none")))
    with pytest.raises(UsageError, match="posed_images: no folder to read"):
        build(tmp_path, "manual")
    with pytest.raises(UsageError, match="csv: has no depth pictures"):
        build(tmp_path, PosedImagesConfig(name="a", path=str(DUMMY_DATA / "csv"), depth=True))
