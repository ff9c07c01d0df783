import dataclasses
import os
import pathlib
import pickle
import threading

import cv2
import numpy as np
import pytest

from jaxreloc.data import datasets, frame_cache
from jaxreloc.data.frame_cache import FrameCache
from jaxreloc.data.tfds_frames import RecordImages
from jaxreloc.formats.common.camera_models import Camera, UndistortedImages
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import ImageFiles, resize_frame
from jaxreloc.usage import UsageError

COUNT, WIDTH, HEIGHT, SIZE = 4, 48, 36, 18


@pytest.fixture
def frames(rng, tmp_path):
    """Noise on disk, so that nothing but the same frame looks like a frame."""
    paths = tuple(tmp_path / "pictures" / f"{k}.png" for k in range(COUNT))
    paths[0].parent.mkdir()
    for path in paths:
        write_noise(rng, path)
    intrinsics = np.array([[50, 0, 24], [0, 50, 18], [0, 0, 1]]) + rng.uniform(-1, 1, (COUNT, 3, 3))
    intrinsics[:, (0, 1, 2, 2, 2), (1, 0, 0, 1, 2)] = (0, 0, 0, 0, 1)
    return PosedFrames(
        scene="scene",
        names=tuple(path.name for path in paths),
        world_from_cam=np.tile(np.eye(4), (COUNT, 1, 1)),
        intrinsics=intrinsics,
        image_sizes=np.tile([[WIDTH, HEIGHT]], (COUNT, 1)),
        images=ImageFiles(paths),
    )


def write_noise(rng, path):
    cv2.imwrite(str(path), rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def check_all(cache, frames, size=SIZE):
    for k in range(len(frames)):
        image, intrinsics = cache.read(0, k)
        expected = resize_frame(frames.images[k], frames.intrinsics[k], size)
        np.testing.assert_array_equal(image, expected[0])
        np.testing.assert_allclose(intrinsics, expected[1], rtol=1e-12, atol=1e-12)


def entries(directory):
    return {path for path in pathlib.Path(directory).rglob("*") if path.is_file()}


@pytest.fixture
def decoded(monkeypatch):
    """The indices of the pictures decoded, in order."""
    indices, read = [], ImageFiles.__getitem__

    def recorded(images, i):
        indices.append(i)
        return read(images, i)

    monkeypatch.setattr(ImageFiles, "__getitem__", recorded)
    return indices


@pytest.mark.parametrize("size", [SIZE, 50, (30, 30), (36, 48)])
@pytest.mark.parametrize("on_disk", [False, True])
def test_reads_are_resized_frames(frames, tmp_path, size, on_disk):
    for _ in range(2):
        cache = FrameCache([frames], size, directory=tmp_path / "cache" if on_disk else None)
        check_all(cache, frames, size)
        check_all(cache, frames, size)


def test_each_picture_is_decoded_once(frames, tmp_path, decoded):
    for _ in range(2):
        cache = FrameCache([frames], SIZE, directory=tmp_path / "cache", memory_bytes=0)
        for _ in range(2):
            for k in range(COUNT):
                cache.read(0, k)
    assert decoded == list(range(COUNT))


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_folder_that_cannot_be_named_is_one_line(frames, name):
    with pytest.raises(UsageError, match="no frame cache can be made there"):
        FrameCache([frames], SIZE, directory=name)


def test_memory_is_filled_up_to_its_limit(frames, decoded):
    frame_bytes = SIZE * SIZE * WIDTH // HEIGHT * 3
    cache = FrameCache([frames], SIZE, memory_bytes=2 * frame_bytes + 1)
    for _ in range(3):
        for k in range(COUNT):
            cache.read(0, k)
    assert decoded == [0, 1, 2, 3, 2, 3, 2, 3]


def test_entries_are_of_a_picture_whatever_its_scene(frames, tmp_path, decoded):
    FrameCache([frames], SIZE, directory=tmp_path / "cache").read(0, 2)
    other = dataclasses.replace(frames.select([1, 2]), scene="other")
    cache = FrameCache([frames.select([0]), other], SIZE, directory=tmp_path / "cache")
    _, intrinsics = cache.read(1, 1)
    assert decoded == [2]
    expected = resize_frame(frames.images[2], frames.intrinsics[2], SIZE)[1]
    np.testing.assert_allclose(intrinsics, expected)


def test_changed_picture_and_changed_size_are_new_entries(rng, frames, tmp_path):
    cache_dir = tmp_path / "cache"
    check_all(FrameCache([frames], SIZE, directory=cache_dir), frames)
    write_noise(rng, frames.images.paths[1])
    os.utime(frames.images.paths[1], ns=(1, 1))
    check_all(FrameCache([frames], SIZE, directory=cache_dir), frames)
    check_all(FrameCache([frames], (SIZE, SIZE), directory=cache_dir), frames, (SIZE, SIZE))
    assert len(entries(cache_dir)) == 2 * COUNT + 1


def flip_a_bit(rng, content):
    where = rng.integers(len(content))
    changed = bytearray(content)
    changed[where] ^= 1 << rng.integers(8)
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda rng, content: b"",
        lambda rng, content: content[: rng.integers(1, len(content))],
        lambda rng, content: content + b"x",
        lambda rng, content: bytes(len(content)),
        flip_a_bit,
    ],
    ids=["empty", "truncated", "too long", "zeros", "bit flip"],
)
def test_damaged_entries_are_made_anew(rng, frames, tmp_path, decoded, damage):
    cache_dir = tmp_path / "cache"
    check_all(FrameCache([frames], SIZE, directory=cache_dir), frames)
    intact = {path: path.read_bytes() for path in entries(cache_dir)}
    for path, content in intact.items():
        path.write_bytes(damage(rng, content))
    check_all(FrameCache([frames], SIZE, directory=cache_dir), frames)
    assert {path: path.read_bytes() for path in entries(cache_dir)} == intact
    decoded.clear()
    cache = FrameCache([frames], SIZE, directory=cache_dir)
    for k in range(COUNT):
        cache.read(0, k)
    assert decoded == []


def test_a_pipe_in_an_entrys_place_is_not_waited_for(frames, tmp_path):
    cache_dir = tmp_path / "cache"
    check_all(FrameCache([frames], SIZE, directory=cache_dir), frames)
    path = min(entries(cache_dir))
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    check_all(FrameCache([frames], SIZE, directory=cache_dir), frames)
    assert path.read_bytes() == content


def test_several_readers_at_once(frames, tmp_path):
    """Eight caches in eight threads fill one folder; each sees whole frames only."""
    failures = []

    def work():
        try:
            check_all(FrameCache([frames], SIZE, directory=tmp_path / "cache"), frames)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(entries(tmp_path / "cache")) == COUNT


def test_unreadable_picture_is_named_each_time(frames):
    frames.images.paths[2].write_bytes(b"not a picture")
    cache = FrameCache([frames], SIZE)
    for _ in range(2):
        with pytest.raises(UsageError, match="2.png: not a readable picture"):
            cache.read(0, 2)
    cache.read(0, 1)


def test_absent_picture_is_named(frames, tmp_path):
    frames.images.paths[2].unlink()
    with pytest.raises(UsageError, match="2.png: cannot be read"):
        FrameCache([frames], SIZE, directory=tmp_path / "cache").read(0, 2)


def test_picture_of_another_size_than_stated(frames):
    halved = dataclasses.replace(frames, image_sizes=frames.image_sizes // 2)
    with pytest.raises(UsageError, match="scene/3.png: the picture is 48x36, its .* 24x18"):
        FrameCache([halved], SIZE).read(0, 3)


def test_folder_that_cannot_be_made(frames, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no frame cache can be made there"):
        FrameCache([frames], SIZE, directory=tmp_path / "file" / "cache")


def test_full_disk_costs_only_the_cache(monkeypatch, frames, tmp_path, caplog):
    def full(path, **options):
        raise UsageError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(frame_cache, "replacing", full)
    cache = FrameCache([frames], SIZE, directory=tmp_path / "cache", memory_bytes=0)
    with caplog.at_level("WARNING"):
        check_all(cache, frames)
    assert caplog.text.count("No space left on device") == 1
    assert entries(tmp_path / "cache") == set()


def test_pictures_in_memory_need_no_entries(frames, tmp_path):
    loaded = dataclasses.replace(frames, images=list(frames.images))
    check_all(FrameCache([loaded], SIZE, directory=tmp_path / "cache"), loaded)
    assert entries(tmp_path / "cache") == set()


def test_other_sequences_say_what_their_pictures_are(frames, tmp_path):
    class Records(list):
        def identity(self, i):
            return f"records 7 {i}"

    records = dataclasses.replace(frames, images=Records(frames.images))
    check_all(FrameCache([records], SIZE, directory=tmp_path / "cache"), records)
    assert len(entries(tmp_path / "cache")) == COUNT
    blind = dataclasses.replace(frames, images=Records([None] * COUNT))
    cached, _ = FrameCache([blind], SIZE, directory=tmp_path / "cache").read(0, 1)
    expected, _ = FrameCache([frames], SIZE).read(0, 1)
    np.testing.assert_array_equal(cached, expected)


def test_undistorted_pictures_are_told_apart_by_their_cameras(frames, tmp_path):
    def undistorted(k1):
        camera = Camera(50.0, 50.0, 24.0, 18.0, WIDTH, HEIGHT, distortion=(k1, 0.0, 0.0, 0.0))
        images = UndistortedImages(frames.images, (camera,) * COUNT)
        return dataclasses.replace(frames, images=images)

    for k1 in (0.1, -0.2):
        check_all(FrameCache([undistorted(k1)], SIZE, directory=tmp_path), undistorted(k1))
    assert len(entries(tmp_path) - entries(tmp_path / "pictures")) == 2 * COUNT


def test_records_of_a_build_are_told_apart(seven_scenes_data_dir, tmp_path, monkeypatch):
    def scenes():
        return [
            datasets.load_frames("seven_scenes", name, split, data_dir=seven_scenes_data_dir)
            for name in ("chess", "fire")
            for split in ("database", "query")
        ]

    places = [(s, k) for s, frames in enumerate(scenes()) for k in range(len(frames))]
    expected = [FrameCache(scenes(), SIZE).read(*place)[0] for place in places]
    assert len({image.tobytes() for image in expected}) == len(places) > 4
    cache = FrameCache(scenes(), SIZE, directory=tmp_path)
    for place in places:
        cache.read(*place)
    monkeypatch.setattr(RecordImages, "__getitem__", None)
    cached = FrameCache(pickle.loads(pickle.dumps(scenes())), SIZE, directory=tmp_path)
    for place, image in zip(places, expected):
        np.testing.assert_array_equal(cached.read(*place)[0], image)


def test_frames_are_not_to_be_written_to(frames):
    image, _ = FrameCache([frames], SIZE).read(0, 0)
    with pytest.raises(ValueError, match="read-only"):
        image[:] = 0


def test_pickling_leaves_the_frames_behind(frames, decoded):
    cache = FrameCache([frames], SIZE, memory_bytes=COUNT * SIZE * 24 * 3)
    empty = len(pickle.dumps(cache))
    check_all(cache, frames)
    assert len(pickle.dumps(cache)) < empty + 100
    copy = pickle.loads(pickle.dumps(cache))
    check_all(copy, frames)
    decoded.clear()
    for k in range(COUNT):
        copy.read(0, k)
    assert decoded == []


def test_the_frames_own_pictures_stay_as_they_are(frames):
    loaded = dataclasses.replace(frames, images=[image.copy() for image in frames.images])
    FrameCache([loaded], (HEIGHT, WIDTH)).read(0, 0)
    loaded.images[0][:] = 3  # still theirs to write to


def test_entries_are_written_without_waiting_for_the_disk(frames, tmp_path, monkeypatch):
    """Their checksum tells a part from the whole."""
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    check_all(FrameCache([frames], SIZE, directory=tmp_path / "cache"), frames)
    assert len(entries(tmp_path / "cache")) == COUNT and not synced
