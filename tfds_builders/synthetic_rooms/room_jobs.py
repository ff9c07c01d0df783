"""One room to be rendered to files, as it is told to a worker process."""

import dataclasses
import json
import pathlib

from tfds_builders.synthetic_rooms.room_files import write_frames
from tfds_builders.synthetic_rooms.settings import RoomSettings

ROLES = ("database", "query")
DONE = "done"  # a worker's answer


@dataclasses.dataclass(frozen=True)
class RoomJob:
    """One room to be rendered into `folder`."""

    settings: RoomSettings
    split: str
    index: int
    folder: pathlib.Path

    @property
    def files(self) -> dict[str, pathlib.Path]:
        """Where the frames of each role are written."""
        return {role: self.folder / f"{self.split}-{self.index:03d}-{role}.npz" for role in ROLES}

    def to_json(self) -> str:
        """The job on one line."""
        return json.dumps(dataclasses.asdict(self) | {"folder": str(self.folder)})

    @classmethod
    def from_json(cls, line: str) -> "RoomJob":
        """The inverse of `to_json`."""
        fields = json.loads(line)
        settings = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields["settings"].items()
        }
        return cls(
            settings=RoomSettings(**settings),
            split=fields["split"],
            index=fields["index"],
            folder=pathlib.Path(fields["folder"]),
        )


def render_room_files(job: RoomJob) -> None:
    """Renders one room and writes its files."""
    # Imported here so that the parent process needs no ray caster.
    from tfds_builders.synthetic_rooms.generation import render_room

    room = render_room(job.settings, job.split, job.index)
    for role, path in job.files.items():
        write_frames(path, getattr(room, role), job.settings.image_format)
