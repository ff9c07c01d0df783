"""`FrameBuilder`: what the builders that read other people's files share."""

from collections.abc import Callable, Iterable, Iterator

import tensorflow_datasets as tfds
from etils import epath

from jaxreloc.formats.common.collector import BadFrames
from jaxreloc.images import decode_image
from jaxreloc.usage import UsageError
from tfds_builders.random_access import RandomAccessBuilder


class FrameBuilder(RandomAccessBuilder, skip_registration=True):
    """A builder of frames read from files; a bad frame raises UsageError, or is left out.

    Args:
      skip_bad_frames: lists bad frames in one warning a split instead of raising at the first;
        `tfds.load(..., builder_kwargs={"skip_bad_frames": True})`. A build that left out frames is
        not built again without them being asked for.
    """

    def __init__(self, *, skip_bad_frames: bool = False, **kwargs):
        self.skip_bad_frames = skip_bad_frames
        super().__init__(**kwargs)

    def not_there(self, what: str) -> UsageError:
        """The error that `what` is missing, with the builder's instructions, in one line."""
        instructions = " ".join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        return UsageError(f"{self.name}: {what}. {instructions}")

    def checked(
        self, makers: Iterable[Callable[[], dict]], source: str
    ) -> Iterator[tuple[str, dict]]:
        """Keys and examples of `makers`, one a frame, which return an example or raise UsageError.

        Every picture is decoded, so that one that breaks off does not enter the build.

        Args:
          makers: each is called before the next is taken.
          source: what they read, for the summary of the frames left out.
        """
        bad = BadFrames(source, skip=self.skip_bad_frames)
        for make in makers:
            example = None
            with bad.guard():
                example = _with_readable_picture(make())
            if example is not None:
                yield example["image_id"], example
        bad.report()


def _with_readable_picture(example: dict) -> dict:
    decode_image(example["image"], example["image_id"])
    return example


def raising(message: str) -> Callable[[], dict]:
    """A maker of an example that says why there is none."""

    def make() -> dict:
        raise UsageError(message)

    return make


def manual_folder(dl_manager: tfds.download.DownloadManager, name: str) -> epath.Path | None:
    """The folder of a dataset's files that the user has put in place, None if there is none.

    TFDS's default manual folder serves all datasets, each in a folder of its own; a folder given
    as `manual_dir` may be the dataset's own.
    """
    try:
        folder = epath.Path(dl_manager.manual_dir)
    except AssertionError:  # what TFDS raises if it is absent or empty
        return None
    return folder / name if (folder / name).is_dir() else folder
