"""TFDS builder of rendered rooms with exact poses, intrinsics and depth."""

import contextlib
import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Iterable, Iterator

import tensorflow_datasets as tfds

from jaxreloc import interrupts
from jaxreloc.extras import extra
from jaxreloc.progress_bars import progress_bar
from jaxreloc.usage import UsageError
from tfds_builders.frame_features import frame_features
from tfds_builders.random_access import RandomAccessBuilder
from tfds_builders.rooms.room_files import read_examples
from tfds_builders.rooms.room_jobs import RoomJob
from tfds_builders.rooms.settings import (
    FURNISHED,
    FURNISHED_HARD,
    FURNISHED_LARGE,
    NAMED,
    NAMED_SMALL,
    PROCEDURAL,
    RoomSettings,
)
from tfds_builders.rooms.workers import is_elsewhere, render_in_parallel


@dataclasses.dataclass(kw_only=True)
class SyntheticRoomsConfig(tfds.core.BuilderConfig):
    """How many rooms of each split, what they look like, and how many processes render them."""

    train_rooms: int
    validation_rooms: int
    test_rooms: int
    settings: RoomSettings = PROCEDURAL
    furnished: bool = False  # from the library in manual_dir
    workers: int | None = None  # processes; by default one a processor

    def query_split(self, split: str) -> str:
        """Of the query frames of a split's rooms; of named rooms `test`, as 7-Scenes has it."""
        return "test" if self.settings.names else f"{split}_query"


class Builder(RandomAccessBuilder):
    """Rooms rendered from a seed, photographed along hand-held camera paths."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        SyntheticRoomsConfig(
            name="procedural",
            description="Furniture and textures from random numbers; rendered on the spot.",
            train_rooms=12,
            validation_rooms=1,
            test_rooms=2,
        ),
        SyntheticRoomsConfig(
            name="furnished",
            description="Real furniture models, photographed surfaces, wide ranges of everything.",
            train_rooms=240,
            validation_rooms=6,
            test_rooms=10,
            furnished=True,
            settings=FURNISHED,
        ),
        SyntheticRoomsConfig(
            name="furnished_large",
            description="As furnished, of 512x384 pixels and half as many pictures of a room.",
            train_rooms=96,
            validation_rooms=12,
            test_rooms=10,
            furnished=True,
            settings=FURNISHED_LARGE,
        ),
        SyntheticRoomsConfig(
            name="furnished_hard",
            description="As furnished_large, in pictures that share little with each other.",
            train_rooms=80,
            validation_rooms=6,
            test_rooms=6,
            furnished=True,
            settings=FURNISHED_HARD,
        ),
        SyntheticRoomsConfig(
            name="seven_rooms",
            description="Seven rooms with names, recorded and split as 7-Scenes is.",
            train_rooms=len(NAMED.names),
            validation_rooms=0,
            test_rooms=0,
            settings=NAMED,
        ),
        SyntheticRoomsConfig(
            name="seven_rooms_small",
            description="As seven_rooms, with a tenth of the pictures.",
            train_rooms=len(NAMED.names),
            validation_rooms=0,
            test_rooms=0,
            settings=NAMED_SMALL,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The config furnished reads the folders furniture, textures and photographs in manual_dir; "
        "tfds_builders/synthetic_rooms/README.md says which packages fill them."
    )

    def download_and_prepare(self, **options) -> None:
        """As TFDS does; however it ends, no worker and no scratch folder stays."""
        with contextlib.ExitStack() as self._build:
            super().download_and_prepare(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=frame_features(depth=True),
            homepage="https://arxiv.org/abs/1707.09733",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        settings = config.settings
        if config.furnished:
            # Imported here so that registering the builder needs no ray caster.
            from tfds_builders.rooms.furnishing.library import prepared_library

            library = prepared_library(_manual_folder(dl_manager), self._library_cache())
            settings = dataclasses.replace(settings, library=str(library))
        with extra("rooms"):  # what the workers will need
            import embreex  # noqa: F401
        # Whoever renders elsewhere sees the dataset's own folder.
        parent = pathlib.Path(self.data_path).parent if is_elsewhere() else None
        scratch = self._build.enter_context(
            tempfile.TemporaryDirectory(prefix="synthetic_rooms-", dir=parent)
        )
        scratch = pathlib.Path(scratch)
        self._build.enter_context(interrupts.temporary(scratch))
        rooms = {
            "train": config.train_rooms,
            "validation": config.validation_rooms,
            "test": config.test_rooms,
        }
        jobs = {
            split: [RoomJob(settings, split, i, scratch) for i in range(n)]
            for split, n in rooms.items()
            if n
        }
        every = sum(jobs.values(), [])
        rendered = render_in_parallel(every, config.workers)
        self._build.callback(rendered.close)
        rendered = iter(progress_bar(rendered, "rendering", "room", total=len(every)))
        self._build.callback(rendered.close)
        generators = {}
        for split in jobs:
            fresh = itertools.islice(rendered, len(jobs[split]))
            generators[split] = self._generate_examples(fresh, "database")
            generators[config.query_split(split)] = self._generate_examples(jobs[split], "query")
        return generators

    def _library_cache(self) -> pathlib.Path:
        """Beside the datasets, since every build of any settings uses the same library."""
        root = pathlib.Path(self.data_dir).parents[2]
        return root / "downloads" / "synthetic_rooms_library"

    def _generate_examples(
        self, jobs: Iterable[RoomJob], role: str
    ) -> Iterator[tuple[str, dict]]:
        """Yields the frames of one role from the rooms' files, and deletes these.

        A room is rendered when its split asks for the database frames; its query frames wait in
        the scratch folder. TFDS takes the splits in their order.
        """
        for job in jobs:
            yield from read_examples(job.files[role])
            job.files[role].unlink()


def _manual_folder(dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
    try:
        return pathlib.Path(dl_manager.manual_dir)
    except AssertionError as error:  # the folder is absent
        raise UsageError(" ".join(str(error).split())) from error
