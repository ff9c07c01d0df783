"""Poses apart from images: every format, both ways round, and names that do not fit."""

import logging
import shutil

import numpy as np
import pytest

from jaxreloc.formats.localized_poses import LINE_FORMATS, LocalizedPose
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.readers.separate_poses import DEFAULT_FOCAL
from jaxreloc.formats.readers.tum import Trajectory
from jaxreloc.images import PICTURE_SUFFIXES
from jaxreloc.usage import UsageError
from tests.formats.scenes import (
    HEIGHT,
    MAKERS,
    WIDTH,
    make_transforms_json,
    random_poses,
    write_picture,
    write_trajectory,
)


def part(folder, pictures):
    """Moves the colour pictures of `folder` into `pictures`, without the folder `images`."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in PICTURE_SUFFIXES and "depth" not in path.as_posix():
            to = pictures / path.relative_to(folder).as_posix().removeprefix("images/")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, to)


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_is_read_as_with_its_images(tmp_path, rng, name):
    MAKERS[name](tmp_path / "kitchen", rng)
    together = read_posed_images(tmp_path / "kitchen")
    content = [together.images[i].tobytes() for i in range(len(together))]
    part(tmp_path / "kitchen", tmp_path / "pictures")
    apart = read_posed_images(tmp_path / "kitchen", images=tmp_path / "pictures")
    assert len(apart) == len(together) and apart.scene == "pictures"
    for i in range(len(apart)):
        same = content.index(apart.images[i].tobytes())
        np.testing.assert_allclose(apart.world_from_cam[i], together.world_from_cam[same])
        np.testing.assert_allclose(apart.intrinsics[i], together.intrinsics[same])
        assert (tmp_path / "pictures" / apart.names[i]).is_file()


@pytest.mark.parametrize("form", ["tum", "7scenes"])
def test_written_poses_are_read_back_by_where_the_quaternion_is(tmp_path, rng, form, caplog):
    poses = random_poses(rng, 3)
    lines = [
        LINE_FORMATS[form](LocalizedPose(f"{i}.png", True, pose, 1.0, 2, 2, np.eye(3), 0.1, 1.0))
        for i, pose in enumerate(poses)
    ]
    (tmp_path / "out.txt").write_text("\n".join(lines))
    for i in range(3):
        write_picture(tmp_path / "deep" / "er" / f"{i}.png", i)
    frames = read_posed_images(tmp_path / "out.txt", images=tmp_path)
    np.testing.assert_allclose(frames.world_from_cam, poses, atol=1e-9)
    assert frames.names == tuple(f"deep/er/{i}.png" for i in range(3))
    focal = DEFAULT_FOCAL * WIDTH
    expected = [[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1]]
    np.testing.assert_allclose(frames.intrinsics, [expected] * 3)
    assert caplog.text.count("no intrinsics: a focal length of 1.2 times") == 1


def test_what_has_no_other_side_is_counted_once(tmp_path, rng, caplog):
    make_transforms_json(tmp_path / "scene", random_poses(rng, 5))
    part(tmp_path / "scene", tmp_path / "pictures")
    (tmp_path / "pictures" / "0.png").unlink()
    (tmp_path / "pictures" / "3.png").unlink()
    write_picture(tmp_path / "pictures" / "stranger.jpg", 7)
    with caplog.at_level(logging.WARNING):
        frames = read_posed_images(tmp_path / "scene", images=tmp_path / "pictures")
    assert len(frames) == 3
    assert "2 of 5 poses have no picture" in caplog.text
    assert "1 of 4 pictures have no pose and are left out, the first is stranger.jpg" in caplog.text
    assert len(caplog.records) == 2


def test_poses_of_other_images_show_three_names_of_each_side(tmp_path, rng):
    make_transforms_json(tmp_path / "scene", random_poses(rng, 5))
    for i in range(4):
        write_picture(tmp_path / "pictures" / f"other{i}.png", 0)
    with pytest.raises(UsageError) as error:
        read_posed_images(tmp_path / "scene" / "transforms.json", images=tmp_path / "pictures")
    assert "poses: images/0.png, images/1.png, images/2.png;" in str(error.value)
    assert "pictures: other0.png, other1.png, other2.png;" in str(error.value)


def test_a_name_that_two_pictures_fit_finds_none(tmp_path):
    for folder in "ab":
        for i in range(2):
            write_picture(tmp_path / folder / f"{i}.png", i)
    row = "0 0 0 0 0 0 1\n"
    (tmp_path / "poses.txt").write_text(f"0.png {row}a/1.png {row}elsewhere/b/1.png {row}")
    frames = read_posed_images(tmp_path / "poses.txt", images=tmp_path)
    assert frames.names == ("a/1.png", "b/1.png")


def test_times_that_no_name_has_go_to_the_nearest_picture(tmp_path, rng):
    poses = random_poses(rng, 3)
    times = [10.001, 10.101, 10.201]
    write_trajectory(tmp_path / "groundtruth.txt", Trajectory(np.array(times), poses))
    for time in ("10.000", "10.195", "10.150"):
        write_picture(tmp_path / "rgb" / f"{time}.png", 0)
    frames = read_posed_images(tmp_path / "groundtruth.txt", images=tmp_path / "rgb")
    assert frames.names == ("10.000.png", "10.195.png")
    np.testing.assert_allclose(frames.world_from_cam, poses[[0, 2]], atol=1e-9)


def test_mistakes_are_named(tmp_path, rng):
    make_transforms_json(tmp_path / "scene", random_poses(rng, 2))
    pictures = tmp_path / "scene" / "images"
    (tmp_path / "empty").mkdir()
    (tmp_path / "nan.txt").write_text("0.png 0 0 nan 0 0 0 1\n")
    (tmp_path / "both.txt").write_text("0.png 1 0 0 0 0 0 1\n")
    (tmp_path / "neither.txt").write_text("0.png 1 2 3 4 5 6 7\n")
    (tmp_path / "words.txt").write_text("this is no list of poses at all\n")
    for poses, images, message in [
        (tmp_path / "none", pictures, "none: no such file or folder"),
        (tmp_path / "empty", pictures, "empty: no COLMAP model"),
        (tmp_path / "scene", tmp_path / "none", "none: no such folder"),
        (tmp_path / "scene", tmp_path / "empty", "empty: no picture"),
        (tmp_path / "nan.txt", pictures, "nan.txt:1: .*NaN"),
        (tmp_path / "both.txt", pictures, "both four numbers are a unit quaternion"),
        (tmp_path / "neither.txt", pictures, "neither four numbers"),
        (tmp_path / "words.txt", pictures, "neither four numbers"),
    ]:
        with pytest.raises(UsageError, match=message):
            read_posed_images(poses, images=images)
