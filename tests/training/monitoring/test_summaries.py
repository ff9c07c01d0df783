"""What TensorBoard will find in the files."""

import resource
import struct

import cv2
import jax
import numpy as np
from tensorboardX.proto import event_pb2

from jaxreloc.training.monitoring.summaries import Summaries


def read_events(folder):
    """All events of all files: TFRecords of a length, its CRC, the message and its CRC."""
    events = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            events.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + size]))
            at += 16 + size
    return events


def test_scalars_pictures_and_texts_at_their_steps(tmp_path, rng):
    picture = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    summaries = Summaries(tmp_path, 0, print)
    summaries.scalars(7, {"train/loss": 1.5, "train/rate": 0.25})
    summaries.image(8, "pairs", picture)
    summaries.text(0, "config", "x: 1")
    summaries.close()
    found = {
        value.tag: (event.step, value)
        for event in read_events(tmp_path)
        for value in event.summary.value
    }
    assert found["train/loss"][0] == 7 and found["train/loss"][1].simple_value == 1.5
    assert found["train/rate"][1].simple_value == 0.25
    step, value = found["pairs"]
    encoded = np.frombuffer(value.image.encoded_image_string, np.uint8)
    assert step == 8
    np.testing.assert_array_equal(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1], picture)
    assert b"x: 1" in found["config/text_summary"][1].tensor.string_val[0]


def test_a_resumed_run_hides_what_came_after_its_start(tmp_path):
    Summaries(tmp_path, 40, print).close()
    starts = [e.step for e in read_events(tmp_path) if e.HasField("session_log")]
    assert starts == [41]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    summaries = Summaries(tmp_path, 0, print)
    summaries.scalars(1, {"train/loss": 1.0})
    summaries.image(1, "pairs", np.zeros((2, 2, 3), np.uint8))
    summaries.text(1, "config", "")
    summaries.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_curves_and_not_the_run(tmp_path):
    lines = []
    summaries = Summaries(tmp_path, 0, lines.append)
    summaries.scalars(1, {"train/loss": 1.0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))  # as on a full disk
    try:
        for step in range(2, 40):
            summaries.scalars(step, {"train/loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    summaries.close()
    assert len(lines) == 1 and str(tmp_path) in lines[0] and "training goes on" in lines[0]
