"""Set-up shared by the tests of reading datasets."""

import pathlib

import pytest

DUMMY_DATA = pathlib.Path(__file__).parents[2] / "tfds_builders/seven_scenes/dummy_data"


@pytest.fixture(scope="session")
def seven_scenes_data_dir(tmp_path_factory):
    """A TFDS folder with some configs of the dummy 7-Scenes prepared."""
    import tensorflow_datasets as tfds

    import tfds_builders  # noqa: F401

    folder = tmp_path_factory.mktemp("data")
    config = tfds.download.DownloadConfig(manual_dir=DUMMY_DATA)
    for name in ("chess_depth", "chess", "fire", "all_sfm"):
        builder = tfds.builder(f"seven_scenes/{name}", data_dir=folder)
        builder.download_and_prepare(download_config=config)
    return folder


def gray(frames) -> list[int]:
    """The gray values of the dummy pictures, by which they can be told apart."""
    return [int(image[5, 5, 0]) for image in frames.images]
