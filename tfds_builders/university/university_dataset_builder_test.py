import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreloc.data.datasets import load_frames, scene_names
from jaxreloc.formats.pair_lists import UNIVERSITY_SCENES
from jaxreloc.usage import UsageError
from tfds_builders.university.university_dataset_builder import PAIR_LIST, Builder

DUMMY_DATA = pathlib.Path(__file__).parent / "dummy_data"


class UniversityTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"database": 11, "query": 12}


def build(data_dir, manual_dir, **kwargs):
    builder = Builder(data_dir=data_dir, **kwargs)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return builder


@pytest.fixture
def manual(tmp_path):
    """A copy of the dummy data, to be spoilt."""
    return shutil.copytree(DUMMY_DATA, tmp_path / "manual/university")


def test_frames_have_the_poses_of_the_list(tmp_path):
    build(tmp_path, DUMMY_DATA)
    assert scene_names("university") == list(UNIVERSITY_SCENES)
    checked = 0
    for line in (DUMMY_DATA / PAIR_LIST).read_text().splitlines():
        fields = line.split()
        for split, name, scene, values in (
            ("query", fields[0], fields[2], fields[5:12]),
            ("database", fields[1], fields[3], fields[12:19]),
        ):
            name_of_scene = UNIVERSITY_SCENES[int(scene)]
            frames = load_frames("university", name_of_scene, split, data_dir=tmp_path)
            i = frames.names.index(name[1:])
            tx, ty, tz, w, x, y, z = map(float, values)
            pose = frames.world_from_cam[i]
            np.testing.assert_allclose(pose[:3, 3], [tx, ty, tz], atol=1e-5)
            forward = [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]
            np.testing.assert_allclose(pose[:3, 2], forward, atol=1e-5)
            number = int(name[-9:-4])
            gray = 40 * int(scene) + 10 * int(name[5:7]) + number
            assert (frames.images[i] == gray).all() and frames.sequences[i] == name[1:7]
            checked += 1
    assert checked == 2 * 60


def test_without_a_calibration_the_focal_length_is_a_guess(tmp_path, manual):
    frames = list(build(tmp_path, DUMMY_DATA).as_data_source("query"))
    np.testing.assert_allclose(
        frames[0]["intrinsics"], [[38.4, 0, 15.5], [0, 38.4, 11.5], [0, 0, 1]], rtol=1e-6
    )
    (manual / "intrinsics.txt").write_text("33 34 15 11\n")
    frames = build(tmp_path / "calibrated", manual.parent).as_data_source("query")
    np.testing.assert_array_equal(frames[0]["intrinsics"], [[33, 0, 15], [0, 34, 11], [0, 0, 1]])


def test_missing_pieces_are_named(tmp_path, manual):
    (manual / PAIR_LIST).unlink()
    shutil.rmtree(manual / "kitchen")
    with pytest.raises(UsageError) as error:
        build(tmp_path / "data", manual.parent)
    message = str(error.value)
    assert f"{manual / PAIR_LIST}" in message and f"{manual / 'kitchen'}" in message
    assert "office," not in message and "29 GB" in message
    with pytest.raises(UsageError, match="^university: there is no manual folder.*29 GB"):
        build(tmp_path / "data", tmp_path / "none")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda fields: fields[:-1], "not 'query db"),
        (lambda fields: [*fields[:7], "nan", *fields[8:]], "a pose value has NaN"),
        (lambda fields: [*fields[:8], "2", *fields[9:]], "the quaternion has norm"),
    ],
)
def test_a_bad_row_of_the_list_is_named(tmp_path, manual, change, message):
    path = manual / PAIR_LIST
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([" ".join(change(first.split())), *rest]))
    with pytest.raises(UsageError, match=f"{PAIR_LIST}:1: .*{message}"):
        build(tmp_path / "data", manual)


def test_a_bad_picture_raises_or_is_skipped(tmp_path, manual, caplog):
    (manual / "office/seq_02/frame_00001.png").unlink()
    (manual / "office/seq_02/frame_00002.png").write_bytes(b"")
    with pytest.raises(UsageError, match="office/seq_02/frame_00001.png: pose without image"):
        build(tmp_path / "data", manual)
    assert not Builder(data_dir=tmp_path / "data").is_prepared()
    builder = build(tmp_path / "data", manual, skip_bad_frames=True)
    assert len(builder.as_data_source("query")) == 10
    assert "university (query): skipped 2 bad frame(s)" in caplog.text


def test_an_unknown_scene_of_the_list_is_refused(tmp_path, manual):
    path = manual / PAIR_LIST
    first, *others = path.read_text().splitlines()
    fields = first.split()
    path.write_text("\n".join([" ".join([*fields[:3], "4", *fields[4:]]), *others]))
    with pytest.raises(UsageError, match=rf"{PAIR_LIST}: has pairs of unknown scenes \[4\]"):
        build(tmp_path / "data", manual.parent)


def test_an_odd_name_in_the_list_is_refused(tmp_path, manual):
    path = manual / PAIR_LIST
    first, *others = path.read_text().splitlines()
    query, db, *fields = first.split()
    folder = manual / UNIVERSITY_SCENES[int(fields[1])]
    shutil.copy(folder / db[1:], folder / "seq_01/picture.png")
    path.write_text("\n".join([" ".join([query, "/seq_01/picture.png", *fields]), *others]))
    with pytest.raises(UsageError, match="picture.png: not named seq_01/frame_00001.png"):
        build(tmp_path / "data", manual.parent)
