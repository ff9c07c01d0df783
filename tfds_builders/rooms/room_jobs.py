"""One room to be rendered to files."""

import dataclasses
import pathlib

from tfds_builders.rooms.room_files import write_frames
from tfds_builders.rooms.settings import RoomSettings

ROLES = ("database", "query")


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
        return {role: self.folder / f"{self.scene}-{role}.npz" for role in ROLES}

    @property
    def scene(self) -> str:
        """The room's name."""
        return self.settings.scene(self.split, self.index)


def render_room_files(job: RoomJob) -> None:
    """Renders one room and writes its files."""
    # Imported here so that the parent process needs no ray caster.
    from tfds_builders.rooms.generation import render_room

    room = render_room(job.settings, job.split, job.index)
    for role, path in job.files.items():
        write_frames(path, getattr(room, role), job.settings.image_format)
