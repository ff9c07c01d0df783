"""Images in any file system that fsspec opens (s3://, gs://, hdfs://, ...), read where they lie.

The process that lists them copies their heads, of which sizes are read, and all other files, which
say poses, into a temporary folder. A worker has a folder of the same name, into which a picture is
fetched when it is opened.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from jaxreloc import files, interrupts
from jaxreloc.extras import extra
from jaxreloc.images import PICTURE_SUFFIXES
from jaxreloc.scale.cluster import as_path
from jaxreloc.usage import UsageError, one_line

with extra("ray"):
    import fsspec

HEAD_BYTES = 1 << 18  # of a picture, which hold its size and EXIF
MOST_BYTES = 1 << 28  # of another file
POSE_SUFFIXES = (".txt", ".bin", ".json")  # of files that poses may be in
KEPT = 64  # pictures that a worker has fetched


@dataclasses.dataclass(frozen=True)
class RemoteImages:
    """A folder at an address, and where its files are in each process."""

    url: str
    mirror: pathlib.Path

    @classmethod
    def listed(cls, url: str) -> "RemoteImages":
        """With the heads of all pictures and all other files in the mirror.

        Raises:
          UsageError: the address cannot be read.
        """
        mirror = pathlib.Path(tempfile.mkdtemp(prefix="jaxreloc-images-"))
        found = cls(url.rstrip("/"), mirror)
        try:
            system, root = fsspec.core.url_to_fs(found.url)
            names = system.find(root)
            for name in names:
                path = _inside(mirror, os.path.relpath(name, root))
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix.lower() in PICTURE_SUFFIXES:
                    path.write_bytes(system.cat_file(name, 0, HEAD_BYTES))
                elif system.size(name) <= MOST_BYTES:
                    system.get_file(name, str(path))
                elif path.suffix.lower() in POSE_SUFFIXES:
                    raise ValueError(f"{name} has more than {MOST_BYTES >> 20} MB")
        except Exception as error:  # whatever a file system's library raises
            found.remove()
            raise UsageError(
                f"{url}: cannot be read ({one_line(error)}); check the address, and that its "
                "file system's package and credentials are on all machines"
            ) from error
        if not names:
            found.remove()
            raise UsageError(f"{url}: no file in it; check the address")
        return found

    def install(self) -> None:
        """From now on this process fetches the files that it opens, and keeps a few."""
        system, root = fsspec.core.url_to_fs(self.url)
        fetched: collections.OrderedDict[pathlib.Path, None] = collections.OrderedDict()

        def fetch(path: pathlib.Path) -> None:
            if path in fetched and path.exists():
                return
            try:
                part = path.with_name(f".{path.name}.{os.getpid()}")
                with interrupts.temporary(part):
                    part.parent.mkdir(parents=True, exist_ok=True)
                    name = path.relative_to(self.mirror).as_posix()
                    system.get_file(f"{root.rstrip('/')}/{name}", str(part))
                    os.replace(part, path)
            except Exception as error:
                raise UsageError(
                    f"{self.url}/{path.relative_to(self.mirror)}: a worker cannot read it "
                    f"({one_line(error)}); check the credentials there"
                ) from error
            fetched[path] = None
            if len(fetched) > KEPT:
                fetched.popitem(last=False)[0].unlink(missing_ok=True)

        files.fetch_below(self.mirror, fetch)

    def remove(self) -> None:
        """The mirror of this machine."""
        shutil.rmtree(self.mirror, ignore_errors=True)


@contextlib.contextmanager
def opened(
    images: str | os.PathLike,
) -> Iterator[tuple[pathlib.Path, RemoteImages | None]]:
    """The folder that images are read from; where they lie at an address, their mirror.

    Raises:
      UsageError: the address cannot be read.
    """
    if "://" not in str(images):
        yield as_path(images), None
        return
    remote = RemoteImages.listed(str(images))
    with interrupts.temporary(remote.mirror):
        yield remote.mirror, remote


def _inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The path of a name that somebody else chose."""
    if os.path.isabs(name) or ".." in pathlib.PurePath(name).parts:
        raise ValueError(f"{name} leads out of the folder")
    return folder / name
