"""The files of a scene of 7-Scenes, from the archive it is published in or unpacked.

SCENE.zip holds SCENE/TrainSplit.txt, SCENE/TestSplit.txt and one zip a sequence, all scenes having
the same names of sequences. These inner zips are read as they are: TFDS would extract them into one
cache by their names and so mix up the scenes.
"""

import contextlib
import pathlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from etils import epath

from jaxreloc.formats.readers.seven_scenes import SPLIT_FILES, parse_split
from jaxreloc.usage import UsageError

Folder = zipfile.Path | epath.Path | pathlib.Path


@contextlib.contextmanager
def open_scene(path: epath.Path, scene: str) -> Iterator[Folder]:
    """The scene's folder within its archive, or `path` itself if it is a folder."""
    if path.is_dir():
        yield path
        return
    with path.open("rb") as file, _open_zip(file, f"{scene}.zip ({path})") as archive:
        yield _subfolder(archive, scene)


def sequences(scene_folder: Folder, split: str, scene: str) -> list[str]:
    """The sequences of "train" or "test".

    Raises:
      UsageError: the scene has no such file, or it cannot be understood.
    """
    name = SPLIT_FILES[split]
    return parse_split(read(scene_folder / name, f"{scene}/{name}").decode(), f"{scene}/{name}")


@contextlib.contextmanager
def open_sequence(scene_folder: Folder, sequence: str, scene: str) -> Iterator[Folder]:
    """The folder of a sequence's frames, unpacked or within its zip.

    Raises:
      UsageError: it is neither there, or its zip is damaged.
    """
    folder, archive_file = scene_folder / sequence, scene_folder / f"{sequence}.zip"
    source = f"{scene}/{sequence}"
    if folder.is_dir():
        yield folder
        return
    if not archive_file.is_file():
        raise UsageError(
            f"{source}: missing, neither a folder nor {sequence}.zip; download {scene}.zip again"
        )
    # A compressed member of a zip cannot be read backwards, so it is copied out first.
    with tempfile.TemporaryFile() as copy:
        with _zip_errors(f"{source}.zip"), archive_file.open("rb") as member:
            shutil.copyfileobj(member, copy)
        with _open_zip(copy, f"{source}.zip") as archive:
            yield _subfolder(archive, sequence)


def read(file: Folder, source: str) -> bytes:
    """The content of a file.

    Raises:
      UsageError: it is absent or damaged.
    """
    with _zip_errors(source):
        return file.read_bytes()


@contextlib.contextmanager
def _open_zip(file: BinaryIO, source: str) -> Iterator[zipfile.ZipFile]:
    with _zip_errors(source):
        archive = zipfile.ZipFile(file)
    with archive:
        yield archive


def _subfolder(archive: zipfile.ZipFile, name: str) -> zipfile.Path:
    folder = zipfile.Path(archive, f"{name}/")
    return folder if folder.exists() else zipfile.Path(archive)


@contextlib.contextmanager
def _zip_errors(source: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UsageError(
            f"{source}: truncated or damaged ({error}); delete the archive and download it again"
        ) from error
    except (FileNotFoundError, KeyError) as error:
        raise UsageError(f"{source}: missing; download the archive again") from error
