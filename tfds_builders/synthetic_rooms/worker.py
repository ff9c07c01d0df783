"""The process that `workers` starts: reads jobs as lines of JSON, and answers each with a line."""

import sys

import cv2

from tfds_builders.synthetic_rooms.room_jobs import DONE, RoomJob, render_room_files


def main() -> None:
    cv2.setNumThreads(1)
    for line in sys.stdin:
        render_room_files(RoomJob.from_json(line))
        print(DONE, flush=True)


if __name__ == "__main__":
    main()
