import pytest

from jaxreloc.formats.posed_images import FORMATS, read_posed_images
from jaxreloc.usage import UsageError
from tests.formats.scenes import MAKERS, make_transforms_json, random_poses


def test_every_format_is_made_here():
    assert [form.name for form in FORMATS] == list(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_the_format_of_a_folder_is_found(tmp_path, rng, name):
    MAKERS[name](tmp_path / "kitchen", rng)
    frames = read_posed_images(tmp_path / "kitchen")
    assert frames.scene == "kitchen" and len(frames) == (6 if name == "7-Scenes" else 5)
    assert frames.images[0].shape[2] == 3
    assert read_posed_images(str(tmp_path / "kitchen"), scene="label").scene == "label"


def test_transforms_json_itself_will_do(tmp_path, rng):
    path = make_transforms_json(tmp_path / "kitchen", random_poses(rng, 2))
    assert read_posed_images(path).scene == "kitchen"


def test_an_unknown_folder_is_refused_saying_what_was_found(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "more").mkdir()
    with pytest.raises(UsageError) as error:
        read_posed_images(tmp_path)
    message = str(error.value)
    assert "Found: a.png, more/" in message
    assert all(name in message for name in MAKERS) and "\n" not in message
    with pytest.raises(UsageError, match="none: no such folder"):
        read_posed_images(tmp_path / "none")
