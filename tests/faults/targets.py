"""What is broken: a folder of valid files for each reader, and the reader.

A target's `read` gives what was read as plain values, so that two answers can be compared.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pycolmap
import pytest
import safetensors
import safetensors.numpy
from hypothesis.strategies import SearchStrategy
from PIL import Image

from configs import correlation, descriptor, pairs
from jaxreloc import config_flag
from jaxreloc.cli import main as cli
from jaxreloc.cli import parsing
from jaxreloc.data.frame_cache import FrameCache
from jaxreloc.evaluation.pose_files import read_pose_errors
from jaxreloc.formats import pair_lists
from jaxreloc.formats.common.text import parse_json, read_text
from jaxreloc.formats.localized_poses import LocalizedPose
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.readers import pose_list
from jaxreloc.images import decode_depth, read_depth, read_image
from jaxreloc.localization.jobs import query_images
from jaxreloc.localization.jobs.answer_file import AnswerFile
from jaxreloc.localization.map import file_digests, map_files, map_segments
from jaxreloc.localization.map.encoding import CellDepth, EncodedImages
from jaxreloc.localization.map.map_manifest import read_manifest, write_content
from jaxreloc.localization.networks.loading import load_network
from jaxreloc.models.weights import backbone_weights, saved_network, torch_files, variables
from jaxreloc.training import limits, loop, optimizer
from jaxreloc.training.checkpoints import Checkpoints
from jaxreloc.training.distributed import check_batch
from jaxreloc.training.inputs import matched_inputs, matched_pairs
from jaxreloc.training.inputs.match_making import MatchMaking
from jaxreloc.training.state import TrainState, to_state_dict
from jaxreloc.usage import UsageError, check_choice
from tests.faults import flipped_maps, mutations, served_requests
from tests.formats import scenes
from tests.formats.colmap_writer import write_colmap
from tests.models.weights import test_torch_files as torch_pickles
from tests.training import tiny

Read = Callable[[pathlib.Path], object]


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader with valid input.

    Attributes:
      make: writes valid files into a folder.
      read: raises UsageError for what it refuses.
      files: glob patterns of those that are broken.
      checked: a changed file must be refused, or read as before.
      finish: completes a broken folder, so that the fault is not found at the door.
      same: whether two results are one; None compares all that was read.
      broken: the strategy that breaks a file's content.
      start_s: the time that it may take to get ready.
    """

    make: Callable[[pathlib.Path, np.random.Generator], object]
    read: Read
    files: tuple[str, ...] = ("**/*",)
    checked: bool = False
    finish: Callable[[pathlib.Path], None] = lambda folder: None
    same: Callable[[object, object], bool] | None = None
    broken: Callable[[bytes], SearchStrategy[bytes | str]] = mutations.broken
    start_s: float = 120.0  # imports, and valid files, on a busy machine

    def is_same(self, found: object, expected: object) -> bool:
        if self.same is None:
            return plain(found) == plain(expected)
        return self.same(found, expected)


def plain(value: object) -> str:
    """A digest of arrays, names and numbers."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        text = repr([(key, plain(value[key])) for key in sorted(value)])
    elif isinstance(value, (list, tuple)):
        text = repr([plain(x) for x in value])
    elif isinstance(value, (np.ndarray, np.generic)):
        text = f"{value.dtype} {value.shape} {value.tobytes()!r}"
    else:
        text = repr(value)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def read_frames(folder: pathlib.Path, **options) -> object:
    frames = read_posed_images(folder, **options)
    pictures = [frames.images[i].shape for i in range(len(frames))]
    depths = [] if frames.depths is None else [frames.depths[i] for i in range(len(frames))]
    return frames.names, frames.world_from_cam, frames.intrinsics, pictures, depths


def _make(kind: str) -> Callable[[pathlib.Path, np.random.Generator], object]:
    return lambda folder, rng: scenes.MAKERS[kind](folder, rng)


def make_colmap_binary(folder: pathlib.Path, rng: np.random.Generator) -> None:
    frames = scenes.frames_with_pictures(rng, folder)
    write_colmap(folder / "text", frames)
    model = pycolmap.Reconstruction(folder / "text")
    for image in model.images.values():
        image.points2D = [pycolmap.Point2D(xy) for xy in rng.uniform(0, 20, (5, 2))]
    (folder / "sparse").mkdir()
    model.write_binary(folder / "sparse")
    shutil.rmtree(folder / "text")


def make_apart(kind: str) -> Callable[[pathlib.Path, np.random.Generator], None]:
    def make(folder: pathlib.Path, rng: np.random.Generator) -> None:
        scenes.MAKERS[kind](folder / "poses", rng)
        (folder / "poses" / "images").rename(folder / "images")

    return make


def read_apart(folder: pathlib.Path) -> object:
    return read_frames(folder / "poses", images=folder / "images")


def make_evaluation(folder: pathlib.Path, rng: np.random.Generator) -> None:
    poses = scenes.random_poses(rng, 6)
    names = tuple(f"seq/{i}.png" for i in range(6))
    focal = rng.uniform(400, 600, 6)
    pose_list.write_evaluation_poses(
        folder / "truth.txt", pose_list.EvaluationPoses(names, poses, focal)
    )
    pose_list.write_evaluation_poses(
        folder / "found.txt", pose_list.EvaluationPoses(names, poses, None)
    )


def read_evaluation(folder: pathlib.Path) -> object:
    poses = pose_list.read_evaluation_poses(folder / "found.txt")
    errors = read_pose_errors(folder / "found.txt", folder / "truth.txt")
    return poses.names, poses.world_from_cam, repr(errors)


def make_pairs(folder: pathlib.Path, rng: np.random.Generator) -> None:
    def row(*texts):
        return " ".join(map(str, texts))

    poses = [scenes.quaternion_wxyz(pose) for pose in scenes.random_poses(rng, 12)]
    places = rng.normal(size=(12, 3))
    whole = [row(*places[i], *poses[i]) for i in range(12)]
    rows = [
        row(f"/q{i // 3}.png", f"/d{i}.png", 0, i % 2, 1, whole[i // 3], whole[i])
        for i in range(12)
    ]
    (folder / "neighbors.txt").write_text("\n".join(rows))
    rows = [row(f"/d{i}.png", f"/q{i}.png", i % 4, whole[i]) for i in range(12)]
    (folder / "pairs.txt").write_text("\n".join(rows))
    estimates = np.hstack([np.array(poses), places]).astype("<f4")
    (folder / "estimates.txt").write_text("\n".join(row(*values) for values in estimates))
    (folder / "estimates.bin").write_bytes(estimates.tobytes())


def read_pairs(folder: pathlib.Path) -> object:
    neighbors = pair_lists.read_neighbor_list(folder / "neighbors.txt")
    pairs = pair_lists.read_pair_list(folder / "pairs.txt")
    estimates = [
        pair_lists.read_relative_estimates(folder / name, 12)
        for name in ("estimates.txt", "estimates.bin")
    ]
    return neighbors, pairs, estimates


SETTINGS = '{"images": "x"}'


def localized(name: str, pose: np.ndarray, success: bool) -> LocalizedPose:
    return LocalizedPose(name, success, pose, 0.5, 3, 5, np.eye(6), 2.0, turn_deg=90)


def make_answers(folder: pathlib.Path, rng: np.random.Generator) -> None:
    with AnswerFile(folder / "out", SETTINGS, resume=False) as answers:
        for i, pose in enumerate(scenes.random_poses(rng, 5)):
            answers.add(localized(f"{i}.png", pose, i != 2))


def read_answers(folder: pathlib.Path) -> object:
    with AnswerFile(folder / "out", SETTINGS, resume=True) as answers:
        return dict(answers.answered)


def make_pictures(folder: pathlib.Path, rng: np.random.Generator) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for suffix in ("png", "jpg", "tif", "webp", "bmp"):
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(6, 0).repeat(6, 1)
        options = {} if suffix == "bmp" else {"exif": exif}
        Image.fromarray(pixels).save(folder / f"a.{suffix}", **options)


def read_pictures(folder: pathlib.Path) -> object:
    queries = list(query_images.find_query_images(folder))
    for query in queries:
        if query.image is None and str(folder) not in query.problem:
            raise AssertionError(f"a problem without its file: {query.problem}")
    shapes = [query.image is not None and query.image.shape for query in queries]
    for path in sorted(folder.iterdir()):
        read_image(path)
    return shapes


def make_depth(folder: pathlib.Path, rng: np.random.Generator) -> None:
    depth = rng.integers(0, 2**16, (24, 32)).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(depth).save(file, "png")
    (folder / "a.png").write_bytes(file.getvalue())


def read_depths(folder: pathlib.Path) -> object:
    depth = read_depth(folder / "a.png")
    decode_depth((folder / "a.png").read_bytes(), str(folder / "a.png"))
    return depth


def encoded_images(rng: np.random.Generator, names: Sequence[str]) -> EncodedImages:
    n = len(names)
    return EncodedImages(
        names=tuple(names),
        world_from_cam=scenes.random_poses(rng, n),
        intrinsics=np.tile([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]], (n, 1, 1)),
        image_sizes=np.tile([32, 24], (n, 1)),
        network_intrinsics=np.tile(np.eye(3, dtype=np.float32), (n, 1, 1)),
        descriptors=rng.normal(size=(n, 5)).astype(np.float32),
        features=(rng.normal(size=(n, 3, 2)).astype(np.float32),),
        pictures=[b"a picture"] * n,
        depth=CellDepth(rng.integers(0, 1 << 16, (n, 2, 2), np.uint16), np.ones(n, np.float32)),
    )


def save_weights(folder: pathlib.Path) -> None:
    (folder / saved_network.FILE_NAME).write_bytes(b"weights")


def make_map(folder: pathlib.Path, rng: np.random.Generator) -> None:
    if folder.exists():
        folder.rmdir()
    parts = [encoded_images(rng, names) for names in ("abc", "de")]
    map_files.create(folder, save_weights, parts)
    map_files.remove(folder, ["b"])


def make_map_1(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """As the version without checksums wrote it, so that the parsers themselves are reached."""
    make_map(folder, rng)
    content = json.loads((folder / "manifest.json").read_text()) | {"version": 1}
    del content["sha256"]
    for segment in content["segments"]:
        del segment["files_sha256"], segment["depth_sha256"]
        for name in (file_digests.FILE_NAME, map_segments.DEPTH_DIGESTS):
            (folder / "segments" / segment["name"] / name).unlink()
    (folder / "manifest.json").write_text(json.dumps(content))


def sign_map(folder: pathlib.Path) -> None:
    """Writes the digests again, as if the broken files had been written so."""
    if not (folder / "manifest.json").is_file():
        return
    content = json.loads((folder / "manifest.json").read_text())
    for segment in content["segments"]:
        part = folder / "segments" / segment["name"]
        segment["files_sha256"] = _signed(part, file_digests.FILE_NAME)
        segment["depth_sha256"] = _signed(part, map_segments.DEPTH_DIGESTS)
    write_content(folder, content)


def _signed(folder: pathlib.Path, digest_file: str) -> str | None:
    path = folder / digest_file
    if not path.is_file():
        return "0" * 64
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        digests = json.loads(path.read_text())
        for name in digests["sha256"]:
            if (folder / name).is_file():
                data = (folder / name).read_bytes()
                digests["sha256"][name] = hashlib.sha256(data).hexdigest()
        path.write_text(json.dumps(digests))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_map(folder: pathlib.Path) -> object:
    manifest = read_manifest(folder)
    map_files.network_file(folder, manifest)
    parts = map_files.read_parts(folder, manifest)
    map_files.check_files(folder)
    return [
        (
            *(part.names, part.world_from_cam, part.intrinsics, part.image_sizes),
            *(part.network_intrinsics, part.descriptors),
            *(np.stack(list(leaf)) for leaf in part.features),
            *(() if part.depth is None else (np.stack(list(part.depth.codes)), part.depth.unit)),
        )
        for part in parts
    ]


MODEL = {"backbone": "resnet18", "head": "concat"}


def make_network(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """Only what is parsed: the parameters of a whole network would take all the time."""
    arrays = {"params/a": rng.normal(size=(3, 4)).astype(np.float32)}
    metadata = {"config": json.dumps({"model": MODEL, "data": {"short_side": 72}})}
    content = safetensors.numpy.save(arrays, metadata)
    (folder / saved_network.FILE_NAME).write_bytes(content)


def read_network(folder: pathlib.Path) -> object:
    return saved_network.read_file(folder / saved_network.FILE_NAME)


def make_torch(folder: pathlib.Path, rng: np.random.Generator) -> None:
    for layout in ("zip", "legacy"):
        array = rng.normal(size=(3, 4)).astype(np.float32)
        entries = {
            "whole": torch_pickles.tensor(array, "0", layout),
            "row": torch_pickles.tensor(array, "0", layout, offset=8, size=(4,), stride=(1,)),
        }
        torch_pickles.write(folder / f"{layout}.pth", layout, entries, {"0": array})


def read_torch(folder: pathlib.Path) -> object:
    return [torch_files.read_state_dict(folder / f"{layout}.pth") for layout in ("zip", "legacy")]


def make_matches(folder: pathlib.Path, rng: np.random.Generator) -> None:
    n, k = 3, 4
    pairs = matched_pairs.MatchedPairs(
        x_query=rng.normal(size=(n, k, 2)),
        x_db=rng.normal(size=(n, k, 2)),
        confidence=rng.uniform(size=(n, k)),
        mass=rng.uniform(size=(n, k)),
        reverse=rng.uniform(size=(n, k)),
        db_from_query=rng.normal(size=(n, 7)),
        overlap=rng.uniform(size=n),
        focal_px=rng.uniform(size=n),
        height_px=np.arange(n),
        frames=np.zeros((n, 2), int),
        names=["a", "b", "c"],
    )
    matched_pairs.save(folder / "a.matches.npz", pairs)


def read_matches(folder: pathlib.Path) -> object:
    return matched_pairs.load(folder / "a.matches.npz", 3)


def make_whole_network(folder: pathlib.Path, rng: np.random.Generator) -> None:
    config = {"model": {"backbone": "tiny"}, "data": {"short_side": 40, "crop": 32}}
    with training_tiny():
        saved_network.save_network(folder, config, tiny.variables())


def make_unsigned_network(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """As earlier versions wrote it, so that what comes behind its checksum is reached."""
    make_whole_network(folder, rng)
    path = folder / saved_network.FILE_NAME
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = {"config": file.metadata()["config"]}
    arrays = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def read_whole_network(folder: pathlib.Path) -> object:
    with training_tiny():
        network = load_network(folder / saved_network.FILE_NAME)
        picture = network.prepare(np.zeros((48, 64, 3), np.uint8), np.eye(3))
    return variables.flatten(network.loaded.variables), network.loaded.config, picture


@contextlib.contextmanager
def training_tiny() -> Iterator[None]:
    """The network and the frames of `tests.training.tiny` are known by name."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr, patch.setitem)
        yield


def make_backbone(folder: pathlib.Path, rng: np.random.Generator) -> None:
    tensors = {"conv.weight": rng.normal(size=(4, 3, 2, 2)), "bn.weight": np.ones(4)}
    tensors = {name: x.astype(np.float32) for name, x in tensors.items()}
    safetensors.numpy.save_file(tensors, folder / "backbone.safetensors")


def read_backbone(folder: pathlib.Path) -> object:
    kernel, scale = np.zeros((2, 2, 3, 4)), np.zeros(4)
    shapes = {"params": {"conv": {"kernel": kernel}, "norm": {"scale": scale}}}
    source = backbone_weights.Source(lambda: folder, lambda layer: ("conv", "bn"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbone_weights.SOURCES, "small", source)
        return backbone_weights.load_backbone("small", str(folder / "backbone.safetensors"), shapes)


def state_at(step: int) -> TrainState:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3) + step
    moments = {"mu": kernel / 2, "count": np.int32(step)}
    return TrainState(np.int32(step), {"network": {"kernel": kernel}}, {"mean": kernel[0]}, moments)


def record_at(step: int) -> dict:
    return {"data": {"next_step": step, "fingerprint": 7}, "best": {"step": step}, "config": {}}


def make_checkpoints(folder: pathlib.Path, rng: np.random.Generator) -> None:
    saved = Checkpoints(folder / "checkpoints", lambda line: None)
    for step in (5, 10):
        saved.save(state_at(step), record_at(step))
    saved.close()


def read_checkpoints(folder: pathlib.Path) -> object:
    """The newest one, or else the one before, which has been said."""
    said: list[str] = []
    saved = Checkpoints(folder / "checkpoints", said.append)
    try:
        found = saved.restore()
    finally:
        saved.close()
    if found is None:
        raise AssertionError("begins anew without a word")
    step = int(found.state["step"])
    if step not in (5, 10) or plain((found.state, found.record)) != plain(
        (to_state_dict(state_at(step)), record_at(step))
    ):
        raise AssertionError(f"restored {found}")
    if said:
        raise UsageError(said[0])
    return found


def flattened(config: Mapping, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in config.items():
        if hasattr(value, "items"):
            flat |= flattened(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float, str, bool, type(None))) or name != "sources":
            flat[f"{prefix}{name}"] = value
    return flat


CONFIGS = {"pairs": pairs, "correlation": correlation, "descriptor": descriptor}


def make_configs(folder: pathlib.Path, rng: np.random.Generator) -> None:
    for name, module in CONFIGS.items():
        fields = flattened(module.get_config("quick"))
        (folder / f"{name}.json").write_text(json.dumps(fields, indent=0))


def read_configs(folder: pathlib.Path) -> object:
    """Whatever differs from the file is a flag; all that is made of a config without its data."""
    found = []
    for name, module in CONFIGS.items():
        path = folder / f"{name}.json"
        given = parse_json(read_text(path), str(path))
        if not isinstance(given, dict):
            raise UsageError(f"{path}: no fields")
        usual = json.loads(json.dumps(flattened(module.get_config("quick"))))
        flags = [
            f"--config.{field}={tuple(value) if isinstance(value, list) else value}"
            for field, value in given.items()
            if value != usual.get(field, ())
        ]
        try:
            config = config_flag.load_config(f"{module.__file__}:quick", flags)
            found.append(flattened(config))
            _use_config(config)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    return found


def _use_config(config) -> None:
    limits.check(config)
    check_choice("config.task", config.task, loop.TASKS)
    task = loop.TASKS[config.task].of_config(config)
    check_batch(config.batch_size, config.accumulation)
    _, schedule = optimizer.build_optimizer(config.optimizer, config.num_steps)
    assert np.isfinite([float(schedule(step)) for step in (0, 1, 100)]).all()
    if "pair_target" in config.data and config.data.num_pairs <= 10_000:
        for split in (config.data.train_split, config.data.validation_split):
            check_choice("split", split, ("train", "validation"))
        with training_tiny():
            train, _ = task.load(config, print)
        if config.batch_size * config.data.short_side**2 < 1e6 and not config.data.num_workers:
            next(train.loader.batches(0))


MATCHING = MatchMaking(((24, 32),), 5, 0.2, "imagenet", 0)


def make_record(folder: pathlib.Path, rng: np.random.Generator) -> None:
    matched_inputs.write_record(folder, MATCHING, ["room-1", "room-2"])


def read_record(folder: pathlib.Path) -> object:
    return matched_inputs.read_record(folder, MATCHING)


COMMAND_LINES = {
    "map build": ["--images=photos", "--out=map", "--long_side=384", "--skip_bad_frames"],
    "map remove": ["--map=map", "--names=a.jpg,b.jpg"],
    "query": ["--map=map", "--images=new", "--out=poses", "--format=jsonl", "--num_neighbors=5"],
    "eval": ["--workdir=w", "--scene=chess", "--out=o", "--viz", "--min_baseline=0.1"],
    "train": ["--config=configs/pairs.py:quick", "--workdir=w", "--num_processes=2"],
}


def make_command_lines(folder: pathlib.Path, rng: np.random.Generator) -> None:
    for command, flags in COMMAND_LINES.items():
        (folder / f"{command}.json").write_text(json.dumps(flags))


def read_command_lines(folder: pathlib.Path) -> object:
    return [_parsed(command, folder / f"{command}.json") for command in COMMAND_LINES]


def _parsed(command: str, path: pathlib.Path) -> object:
    words = parse_json(read_text(path), str(path))
    if not isinstance(words, list):
        raise UsageError(f"{path}: no words")
    function, taken = cli._function(command), []

    @functools.wraps(function)
    def take(**arguments):
        taken.append(arguments)

    argv = [word if isinstance(word, str) else json.dumps(word) for word in words]
    try:
        parsing.call(take, argv, command)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except SystemExit as error:
        if error.code:
            raise AssertionError(f"several lines, status {error.code}") from error
    return repr(taken)


def make_frame_cache(folder: pathlib.Path, rng: np.random.Generator) -> None:
    scenes.MAKERS["transforms.json"](folder / "photos", rng)
    read_frame_cache(folder)


def read_frame_cache(folder: pathlib.Path) -> object:
    frames = read_posed_images(folder / "photos")
    cache = FrameCache([frames], 16, directory=folder / "cache")
    return [cache.read(0, i) for i in range(len(frames))]


FLIPPED_MAP = "map of pictures, a flipped bit"
TARGETS = {
    "transforms.json": Target(_make("transforms.json"), read_frames, ("transforms.json",)),
    "COLMAP, text": Target(_make("COLMAP"), read_frames, ("sparse/**/*",)),
    "COLMAP, binary": Target(make_colmap_binary, read_frames, ("sparse/*",)),
    "TUM RGB-D": Target(_make("TUM RGB-D"), read_frames, ("*.txt",)),
    "7-Scenes": Target(_make("7-Scenes"), read_frames, ("**/*.txt", "**/*.png")),
    "poses.csv": Target(_make("CSV"), read_frames, ("*.csv", "*.txt")),
    "TUM pose list": Target(_make("TUM pose list"), read_frames, ("*.txt",)),
    "poses apart: transforms.json": Target(
        make_apart("transforms.json"), read_apart, ("poses/*",)
    ),
    "poses apart: TUM pose list": Target(make_apart("TUM pose list"), read_apart, ("poses/*.txt",)),
    "poses apart: CSV": Target(make_apart("CSV"), read_apart, ("poses/*.csv", "poses/*.txt")),
    "evaluation poses": Target(make_evaluation, read_evaluation),
    "pair lists": Target(make_pairs, read_pairs),
    "unfinished answers": Target(make_answers, read_answers),
    "pictures": Target(make_pictures, read_pictures),
    "depth pictures": Target(make_depth, read_depths),
    "map": Target(make_map, read_map, checked=True),
    FLIPPED_MAP: Target(
        flipped_maps.make,
        flipped_maps.read,
        checked=True,
        same=flipped_maps.same,
        broken=flipped_maps.flipped,
        start_s=1200.0,
    ),
    "map without checksums": Target(make_map_1, read_map),
    "map, checksums renewed": Target(make_map, read_map, finish=sign_map),
    "saved network": Target(make_network, read_network),
    "whole network": Target(make_whole_network, read_whole_network, checked=True),
    "whole network without checksum": Target(make_unsigned_network, read_whole_network),
    "backbone's weights": Target(make_backbone, read_backbone),
    "PyTorch weights": Target(make_torch, read_torch),
    "matched pairs": Target(make_matches, read_matches),
    "record of matched pairs": Target(make_record, read_record),
    "checkpoints": Target(make_checkpoints, read_checkpoints, checked=True),
    "configs": Target(make_configs, read_configs),
    "command lines": Target(make_command_lines, read_command_lines),
    "requests to a server": Target(served_requests.make, served_requests.read),
    "resized frames": Target(make_frame_cache, read_frame_cache, ("cache/*/*",), checked=True),
}
