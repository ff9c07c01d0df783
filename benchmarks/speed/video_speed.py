"""Images of a video a second, from decoding to the written answer, beside a camera's 20.

  taskset -c 0 python -m benchmarks.speed.video_speed [--images=PHOTOS]

Of a folder of posed photographs in the order of their names, or of a rendered room's camera path,
every second picture makes the map; the others make the video, an AVI of JPEG pictures, once
forwards and once backwards. Milliseconds are medians of a query by `total_ms` of its answer.
"""

import json
import os
import pathlib
import tempfile
import time

import cv2
import numpy as np
import tabulate
from absl import flags

from jaxreloc import files
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import split_frames
from jaxreloc.formats.writers.answer_formats import answer_format
from jaxreloc.localization.jobs.querying import localize_images
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.usage import UsageError, run_script

_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs.")

CAMERA = 20.0  # images a second
ROOM = 2  # of the test rooms
WAYS = (("fast", 512), ("fast", 256), ("default", 256))  # the mode, the longer side in pixels


def load_frames() -> PosedFrames:
    """The user's photographs, or a rendered room."""
    if _IMAGES.value:
        return read_posed_images(_IMAGES.value)
    from tfds_builders.rooms.generation import render_room
    from tfds_builders.rooms.settings import RoomSettings

    one_lens = RoomSettings(width=512, height=384, focal_lengths=(0.9, 0.9))
    return render_room(one_lens, "test", ROOM).database


def write_video(frames: PosedFrames, path: pathlib.Path) -> int:
    """There and back; the number of its images."""
    width, height = map(int, frames.image_sizes[0])
    order = [*range(len(frames)), *reversed(range(len(frames)))]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), CAMERA, (width, height))
    for i in order:
        writer.write(cv2.cvtColor(frames.images[i], cv2.COLOR_RGB2BGR))
    writer.release()
    return len(order)


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    frames = load_frames()
    if max(np.ptp(x, axis=0).max() for x in (frames.image_sizes, frames.intrinsics)) > 0:
        raise UsageError("a video is of one camera; give photographs of one size and one lens")
    database, filmed = (split_frames(frames, part, query_every=2) for part in ("database", "query"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        video, out = pathlib.Path(folder, "video.avi"), pathlib.Path(folder, "answers.jsonl")
        cameras = pathlib.Path(folder, "intrinsics.txt")
        fx, fy, cx, cy = filmed.intrinsics[0][[0, 1, 0, 1], [0, 1, 2, 2]]
        files.write_text(cameras, f"{fx} {fy} {cx} {cy}\n")
        count = write_video(filmed, video)
        for mode, long_side in WAYS:
            network = pretrained_network(database.image_sizes, long_side=long_side)
            scene_map = with_depth(SceneMap.from_images(network, encode_frames(database, network)))
            localizer = Localizer(scene_map, mode=mode)
            localizer.warm_up(candidates=True)
            start = time.perf_counter()
            localize_images(
                localizer, video, out, answer_format("jsonl", None, ""), intrinsics_path=cameras
            )
            rate = count / (time.perf_counter() - start)
            answers = [json.loads(line) for line in out.read_text().splitlines()]
            rows.append(
                {
                    "mode, pixels": f"{mode}, {long_side}",
                    "localized": np.mean([x["success"] for x in answers]),
                    "ms": np.median([x["total_ms"] for x in answers]),
                    "images a second": rate,
                    f"of a camera's {CAMERA:.0f}": rate / CAMERA,
                }
            )
            out.unlink()
    cores = len(os.sched_getaffinity(0))
    print(f"{frames.scene}: a map of {len(database)}, a video of {count}, {cores} core(s)")
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3g"))


if __name__ == "__main__":
    run_script(main)
