"""Images at an address are those of the folder; a file is fetched when it is opened."""

import pathlib

import numpy as np
import pytest

from jaxreloc import files
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.usage import UsageError
from tests.photographs import write_photographs

pytestmark = pytest.mark.ray


@pytest.fixture
def remote_images():
    from jaxreloc.scale import remote_images

    yield remote_images
    files._fetchers.clear()


def test_they_are_those_of_the_folder(tmp_path, rng, remote_images, monkeypatch):
    monkeypatch.setattr(remote_images, "HEAD_BYTES", 64)
    monkeypatch.setattr(remote_images, "KEPT", 2)
    write_photographs(tmp_path / "there", rng, 5)
    expected = read_posed_images(tmp_path / "there")
    found = remote_images.RemoteImages.listed(f"file://{tmp_path / 'there'}")
    assert max(x.stat().st_size for x in found.mirror.rglob("*.png")) == 64
    frames = read_posed_images(found.mirror)
    assert frames.names == expected.names
    np.testing.assert_array_equal(frames.world_from_cam, expected.world_from_cam)
    np.testing.assert_array_equal(frames.image_sizes, expected.image_sizes)
    found.install()
    for i in rng.permutation(10) % 5:
        np.testing.assert_array_equal(frames.images[i], expected.images[i])
    found.remove()
    np.testing.assert_array_equal(frames.images[0], expected.images[0])  # on another machine
    found.remove()


def test_what_cannot_be_read_is_one_line(tmp_path, remote_images):
    for url in (f"file://{tmp_path / 'absent'}", "nosuch://bucket/folder"):
        with pytest.raises(UsageError, match="check the address"):
            remote_images.RemoteImages.listed(url)


def test_a_name_that_leads_out_of_the_folder_is_refused(remote_images, monkeypatch):
    import fsspec

    system, _ = fsspec.core.url_to_fs("memory://bucket")
    monkeypatch.setattr(type(system), "find", lambda self, root: [f"{root}/../../out.txt"])
    monkeypatch.setattr(type(system), "size", lambda self, name: 3)
    monkeypatch.setattr(
        type(system), "get_file", lambda self, name, path: pathlib.Path(path).write_text("out")
    )
    with pytest.raises(UsageError, match="leads out of the folder"):
        remote_images.RemoteImages.listed("memory://bucket/photos")
