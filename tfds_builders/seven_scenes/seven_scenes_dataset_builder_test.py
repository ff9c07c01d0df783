import contextlib
import functools
import http.server
import io
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreloc.formats.readers.pose_list import read_evaluation_poses
from jaxreloc.formats.readers.seven_scenes import SCENES
from jaxreloc.usage import UsageError
from tfds_builders.seven_scenes import seven_scenes_dataset_builder

Builder = seven_scenes_dataset_builder.Builder
DUMMY_DATA = pathlib.Path(__file__).parent / "dummy_data"
ROOT = pathlib.Path(__file__).parents[2]


class OneSceneTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["chess", "fire_depth", "heads_sfm", "stairs_sfm_depth"]
    SPLITS = {"train": 3, "test": 3}
    SKIP_CHECKSUMS = True  # see the README


class AllScenesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["all", "all_sfm_depth"]
    SPLITS = {"train": 21, "test": 21}
    SKIP_CHECKSUMS = True


def build(data_dir, config, manual_dir, **kwargs):
    builder = Builder(data_dir=data_dir, config=config, **kwargs)
    download_config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=download_config)
    return builder


def examples(builder, split):
    return {example["image_id"].decode(): example for example in builder.as_data_source(split)}


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    return build(tmp_path_factory.mktemp("all"), "all_depth", DUMMY_DATA)


@functools.cache
def published():
    """The poses that the archives hold by image_id, read here in the plainest way."""
    frames = {}
    for scene in SCENES:
        outer = zipfile.ZipFile(DUMMY_DATA / f"{scene}.zip")
        for name in outer.namelist():
            if not name.endswith(".zip"):
                continue
            inner = zipfile.ZipFile(io.BytesIO(outer.read(name)))
            for member in inner.namelist():
                if member.endswith("pose.txt"):
                    pose = np.array(inner.read(member).split(), np.float64).reshape(4, 4)
                    frames[f"{scene}/{member.replace('pose.txt', 'color.png')}"] = pose
    return frames


def unpack(scene, folder, *, inner=True):
    """Unpacks a scene's archive as a user would, its sequences too unless told otherwise."""
    with zipfile.ZipFile(DUMMY_DATA / f"{scene}.zip") as archive:
        archive.extractall(folder)
    for path in (folder / scene).glob("*.zip") if inner else ():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent)
        path.unlink()
    return folder / scene


def rewrite(scene, target, change):
    """A copy of a scene's archive after `change(members)` of its content, a dict by name."""
    with zipfile.ZipFile(DUMMY_DATA / f"{scene}.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target / f"{scene}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_sequences_of_the_same_name_do_not_mix(everything):
    """Poses and pictures come from their own scene, though all have seq-01.zip and seq-02.zip."""
    built = examples(everything, "train") | examples(everything, "test")
    assert set(built) == set(published())
    for image_id, pose in published().items():
        scene, sequence, name = image_id.split("/")
        example = built[image_id]
        np.testing.assert_allclose(example["world_from_cam"], pose, atol=1e-6)
        gray = 20 * SCENES.index(scene) + 10 * int(sequence[-2:]) + int(name[6:12])
        assert (example["image"] == gray).all()
        assert example["scene"].decode() == scene and example["frame"] == int(name[6:12])
        assert example["sequence"].decode() == sequence


def test_splits_are_each_scenes_own(everything):
    assert "chess/seq-01/frame-000000.color.png" in examples(everything, "train")
    assert "fire/seq-02/frame-000000.color.png" in examples(everything, "train")
    assert "fire/seq-01/frame-000000.color.png" in examples(everything, "test")


def test_depth_is_metres_and_has_its_own_intrinsics(everything):
    example = examples(everything, "test")["chess/seq-02/frame-000001.color.png"]
    expected = np.full((24, 32), 2.001, np.float32)
    expected[0, :2] = 0
    np.testing.assert_allclose(example["depth"], expected, rtol=1e-6)
    np.testing.assert_allclose(example["intrinsics"][0], [525 / 20, 0, 15.5])
    np.testing.assert_allclose(example["depth_intrinsics"][1], [0, 585 / 20, 11.5])


def test_tf_data_and_data_source_give_the_same(everything):
    source = examples(everything, "train")
    dataset = everything.as_dataset(split="train")
    assert len(dataset) == len(source) == 21
    for example in dataset.as_numpy_iterator():
        expected = source[example["image_id"].decode()]
        assert set(example) == set(expected)
        for name, value in example.items():
            np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("inner", [True, False], ids=["unpacked", "inner zips"])
def test_a_folder_unpacked_already_gives_the_same(tmp_path, everything, inner):
    unpack("fire", tmp_path / "manual/seven_scenes", inner=inner)
    builder = build(tmp_path / "data", "fire_depth", tmp_path / "manual")
    assert_same_examples(examples(builder, "train"), everything, "fire")


def test_pictures_named_jpg_are_read_and_keep_their_evaluation_name(tmp_path, everything):
    scene = unpack("fire", tmp_path / "manual")
    for path in scene.rglob("*.color.png"):
        path.rename(path.with_name(path.name.replace("color.png", "color.jpg")))
    builder = build(tmp_path / "data", "fire_depth", tmp_path / "manual")
    assert_same_examples(examples(builder, "train"), everything, "fire")


def assert_same_examples(found, everything, scene):
    expected = {
        image_id: example
        for image_id, example in examples(everything, "train").items()
        if image_id.startswith(scene)
    }
    assert set(found) == set(expected)
    for image_id, example in expected.items():
        for name, value in example.items():
            np.testing.assert_array_equal(found[image_id][name], value)


def test_the_other_ground_truth_replaces_pose_and_focal_length(tmp_path):
    found = examples(build(tmp_path, "fire_sfm", DUMMY_DATA), "test")
    listed = read_evaluation_poses(DUMMY_DATA / "sfm/fire_test.txt")
    for name, pose in zip(listed.names, listed.world_from_cam):
        example = found[f"fire/{name}"]
        np.testing.assert_allclose(example["world_from_cam"], pose, atol=1e-6)
        assert not np.allclose(pose, published()[f"fire/{name}"], atol=1e-3)
        np.testing.assert_allclose(example["intrinsics"][0, 0], 526.22 / 20, rtol=1e-6)


def test_each_frame_has_the_focal_length_of_its_row(tmp_path):
    manual = shutil.copytree(DUMMY_DATA, tmp_path / "manual")
    path = manual / "sfm/fire_test.txt"
    first, *others = path.read_text().splitlines()
    other_focal = [line.replace(" 526.22", " 600") for line in others]
    path.write_text("\n".join([first, *other_focal]))
    found = examples(build(tmp_path / "data", "fire_sfm", manual), "test")
    focal = [found[f"fire/{line.split()[0]}"]["intrinsics"][0, 0] for line in [first, *others]]
    np.testing.assert_allclose(focal, [526.22 / 20] + [600 / 20] * len(others), rtol=1e-6)


def test_the_other_ground_truth_must_be_there(tmp_path):
    unpack("fire", tmp_path / "manual")
    with pytest.raises(UsageError, match="manual/sfm/fire_train.txt: missing; get it from https"):
        build(tmp_path / "data", "fire_sfm", tmp_path / "manual")


def set_inner(sequence, change):
    """Changes the content of an inner zip."""

    def change_outer(members):
        name = f"chess/{sequence}.zip"
        with zipfile.ZipFile(io.BytesIO(members[name])) as archive:
            files = {file: archive.read(file) for file in archive.namelist()}
        change(files)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
        members[name] = buffer.getvalue()

    return change_outer


def set_pose(text):
    return set_inner("seq-01", lambda f: f.update({"seq-01/frame-000001.pose.txt": text}))


def halve(members, name):
    members[name] = members[name][: len(members[name]) // 2]


def pose_with(old, new):
    pose = np.eye(4).tolist()
    return "\n".join(" ".join(map(str, row)) for row in pose).replace(old, new).encode()


BAD_SCENES = {
    "truncated inner zip": (
        lambda m: halve(m, "chess/seq-01.zip"),
        "chess/seq-01.zip: truncated or damaged .* download it again",
    ),
    "missing sequence": (
        lambda m: m.pop("chess/seq-01.zip"),
        "chess/seq-01: missing, neither a folder nor seq-01.zip; download chess.zip again",
    ),
    "missing split": (
        lambda m: m.pop("chess/TrainSplit.txt"),
        "chess/TrainSplit.txt: missing; download the archive again",
    ),
    "strange split": (
        lambda m: m.update({"chess/TrainSplit.txt": b"seq-01\r\n"}),
        "chess/TrainSplit.txt: 'seq-01' is not of the form",
    ),
}
BAD_FRAMES = {
    "NaN": (
        set_pose(pose_with("0.0 1.0", "nan 1.0")),
        "frame-000001.pose.txt: an entry has NaN",
    ),
    "3x4": (
        set_pose(b"\n".join(pose_with("", "").splitlines()[:3])),
        "frame-000001.pose.txt: not four rows of four numbers",
    ),
    "not rigid": (
        set_pose(pose_with("1.0 0.0", "1.2 0.0")),
        "frame-000001.pose.txt: .* not a rigid",
    ),
    "pose without image": (
        set_inner("seq-01", lambda f: f.pop("seq-01/frame-000001.color.png")),
        "chess/seq-01: frame-000001 has no picture",
    ),
    "image without pose": (
        set_inner("seq-01", lambda f: f.pop("seq-01/frame-000001.pose.txt")),
        "chess/seq-01: frame-000001 has no pose.txt",
    ),
    "picture that breaks off": (
        set_inner("seq-01", lambda f: halve(f, "seq-01/frame-000001.color.png")),
        "chess/seq-01/frame-000001.color.png: not a readable picture",
    ),
    "depth that breaks off": (
        set_inner("seq-01", lambda f: halve(f, "seq-01/frame-000001.depth.png")),
        "chess/seq-01/frame-000001.depth.png: not a 16-bit depth",
    ),
    "no depth": (
        set_inner("seq-01", lambda f: f.pop("seq-01/frame-000001.depth.png")),
        "chess/seq-01/frame-000001.color.png: has no depth picture",
    ),
}


@pytest.mark.parametrize("spoil, message", BAD_SCENES.values(), ids=BAD_SCENES)
def test_a_bad_archive_ends_the_build_and_leaves_nothing(tmp_path, spoil, message):
    rewrite("chess", tmp_path, spoil)
    for skip_bad_frames in (False, True):
        with pytest.raises(UsageError, match=message):
            build(tmp_path / "data", "chess", tmp_path, skip_bad_frames=skip_bad_frames)
    assert not Builder(data_dir=tmp_path / "data", config="chess").is_prepared()


def test_a_truncated_outer_archive_is_named(tmp_path):
    content = (DUMMY_DATA / "chess.zip").read_bytes()
    (tmp_path / "chess.zip").write_bytes(content[:-200])
    with pytest.raises(UsageError, match=f"chess.zip .{tmp_path}.*: truncated or damaged"):
        build(tmp_path / "data", "chess", tmp_path)


@pytest.mark.parametrize("spoil, message", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_ends_the_build_or_is_skipped_and_listed(tmp_path, caplog, spoil, message):
    rewrite("chess", tmp_path, spoil)
    with pytest.raises(UsageError, match=f"{message}.*builder_kwargs=.'skip_bad_frames'"):
        build(tmp_path / "data", "chess_depth", tmp_path)
    assert not Builder(data_dir=tmp_path / "data", config="chess_depth").is_prepared()
    builder = build(tmp_path / "data", "chess_depth", tmp_path, skip_bad_frames=True)
    names = sorted(name.rpartition("/")[2] for name in examples(builder, "train"))
    assert names == ["frame-000000.color.png", "frame-000002.color.png"]
    assert "chess (train): skipped 1 bad frame(s)" in caplog.text


@contextlib.contextmanager
def serving(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_archives_are_downloaded_and_need_no_checksum(tmp_path, monkeypatch, everything):
    """Through TFDS's own downloader, from a server on this machine."""
    with serving(DUMMY_DATA) as address:
        monkeypatch.setattr(seven_scenes_dataset_builder, "DOWNLOAD", address)
        builder = Builder(data_dir=tmp_path, config="fire_depth")
        assert Builder.url_infos is None
        builder.download_and_prepare()
    assert_same_examples(examples(builder, "train"), everything, "fire")


BUILD_SLOWLY = """
import sys, time
import tensorflow_datasets as tfds
from tfds_builders.seven_scenes import scene_files, seven_scenes_dataset_builder

read, count = scene_files.read, 0

def slow(*args):
    global count
    count += 1
    if count == 14:  # amidst the frames of the second split
        print("halfway", flush=True)
        time.sleep(600)
    return read(*args)

scene_files.read = slow
builder = seven_scenes_dataset_builder.Builder(data_dir=sys.argv[1], config="chess_depth")
config = tfds.download.DownloadConfig(manual_dir=sys.argv[2])
builder.download_and_prepare(download_config=config)
"""


def test_a_killed_build_leaves_nothing_that_loads(tmp_path, everything):
    command = [sys.executable, "-c", BUILD_SLOWLY, str(tmp_path), str(DUMMY_DATA)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert any("halfway" in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "seven_scenes/chess_depth").iterdir()]
    assert left and all("incomplete" in name for name in left)
    builder = Builder(data_dir=tmp_path, config="chess_depth")
    assert not builder.is_prepared()
    with pytest.raises(Exception, match="(?i)could not find|not set"):
        builder.as_dataset(split="train")
    builder = build(tmp_path, "chess_depth", DUMMY_DATA)
    assert len(builder.as_data_source("train")) == len(builder.as_data_source("test")) == 3
    assert_same_examples(examples(builder, "train"), everything, "chess")


WITHOUT_TENSORFLOW = """
import sys

class WithoutTensorFlow:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *args):
        absent = name.partition(".")[0] == "tensorflow"
        return None if absent else self.finder.find_spec(name, *args)

sys.meta_path[:] = [WithoutTensorFlow(finder) for finder in sys.meta_path]
import tensorflow_datasets as tfds
import tfds_builders

config = tfds.download.DownloadConfig(manual_dir=sys.argv[2])
frames = tfds.data_source(
    "seven_scenes/chess_depth",
    split="train",
    data_dir=sys.argv[1],
    download_and_prepare_kwargs={"download_config": config},
)
print(len(frames), frames[1]["image"].shape, frames[1]["depth"].dtype)
"""


def test_building_and_random_access_need_no_tensorflow(tmp_path):
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path), str(DUMMY_DATA)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1].endswith("3 (24, 32, 3) float32"), result.stderr
