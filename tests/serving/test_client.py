"""The client against a real server: the localizer's own numbers, or one clear line."""

import contextlib
import http.server
import json
import threading

import numpy as np
import pytest
from PIL import Image

import jaxreloc
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.serving import processes, toy_maps
from tests.serving.processes import running
from tests.serving.toy_server import TOKEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = processes.folder_of_maps(tmp_path_factory.mktemp("served"))
    toy_maps.make_map(folder / "maps" / "b c", first=10.0)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with running("-m", "tests.serving.toy_server", folder) as started:
        yield started


@pytest.fixture
def client(server):
    return jaxreloc.Client(server.url + "/", write_token=TOKEN)


def test_an_answer_is_the_localizers(client, folder, monkeypatch, tmp_path):
    toy_maps.install(monkeypatch.setattr)
    locate = toy_maps.open_localizer(folder / "maps" / "a")
    image = toy_maps.picture(3.7)
    found = locate(image, toy_maps.INTRINSICS)
    path = tmp_path / 'a "name".png'
    Image.fromarray(image).save(path)
    for picture in (image, path, str(path), path.read_bytes()):
        answer = client.localize(picture, map="a", intrinsics=toy_maps.INTRINSICS)
        np.testing.assert_array_equal(answer.world_from_cam, found.world_from_query)
        np.testing.assert_array_equal(answer.covariance, found.covariance)
        assert (answer.success, answer.confidence) == (True, found.confidence)
        assert answer.num_inliers == found.location_inliers.sum()
    black = client.localize(toy_maps.picture(0.0), map="a")
    assert not black.success and black.reason and np.isnan(black.world_from_cam).all()


def test_maps_are_named_unless_there_is_one(client):
    assert client.maps() == ["a", "b c"]
    found = client.localize(toy_maps.picture(12.0), map="b c", near=(12, 1, 0, 1.5))
    assert found.success and found.num_neighbors == 3
    with pytest.raises(UsageError, match="has the maps a, b c; name one by map="):
        client.localize(toy_maps.picture(1.0))


def test_maps_are_changed_with_the_token(client, server, folder, monkeypatch):
    toy_maps.install(monkeypatch.setattr)
    pose, name = np.eye(4), "ein Bild ü.png"
    image = toy_maps.picture(20.0)
    count = client.add_image(image, pose, name=name, map="b c", intrinsics=toy_maps.INTRINSICS)
    assert count == 10
    scene_map = SceneMap.open(folder / "maps" / "b c")
    np.testing.assert_array_equal(scene_map.world_from_db[scene_map.names.index(name)], pose)
    with pytest.raises(UsageError, match="already"):
        client.add_image(image, pose, name=name, map="b c")
    with pytest.raises(UsageError, match="token"):
        jaxreloc.Client(server.url).remove_image(name, map="b c")
    assert client.remove_image(name, map="b c") == 9
    with pytest.raises(UsageError, match="no image of this name"):
        client.remove_image("../a", map="b c")


def test_a_mistake_is_one_line(client, tmp_path):
    (tmp_path / "a.jpg").write_text("some text")
    image = toy_maps.picture(1.0)
    for ask, words in [
        (lambda: client.localize(tmp_path / "a.jpg", map="a"), "localize: the picture is no read"),
        (lambda: client.localize(tmp_path / "b.jpg", map="a"), "b.jpg: cannot be read"),
        (lambda: client.localize(image, map="../a"), "no"),
        (lambda: client.localize(image, map="a", intrinsics=np.eye(4)), "3x3"),
        (lambda: client.localize(image, map="a", intrinsics=np.eye(3)), "fx fy cx cy = 1 1 0 0"),
        (lambda: client.localize(image.astype(float), map="a"), "uint8"),
        (lambda: client.localize(image, map="a", near=(1, 2)), "near"),
        (lambda: jaxreloc.Client("localhost:8000"), "no server's address"),
        (lambda: jaxreloc.Client("http://127.0.0.1:9").maps(), "check the address"),
    ]:
        with pytest.raises(UsageError, match=words) as refused:
            ask()
        assert "\n" not in str(refused.value)


@contextlib.contextmanager
def answering(answer):
    """The URL of a server that handles each request by `answer(handler)`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer(self)

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_busy_server_is_asked_again():
    answers = [(429, {"error": "full"}), (503, {"error": "later"}), (200, [{"name": "x"}])]
    seen = []

    def answer(handler):
        status, body = answers[min(len(seen), 2)]
        seen.append(status)
        handler.send_response(status)
        if status != 200:
            handler.send_header("Retry-After", "0")
        handler.end_headers()
        handler.wfile.write(json.dumps(body).encode())

    with answering(answer) as url:
        assert jaxreloc.Client(url).maps() == ["x"] and seen == [429, 503, 200]
        answers[2] = 429, {"error": "the queue is full"}
        with pytest.raises(UsageError, match="the queue is full"):
            jaxreloc.Client(url, timeout_s=0.5).maps()


@pytest.mark.parametrize("half", [b"", b'{"images'])
def test_an_answer_that_was_cut_off_is_asked_for_again(half):
    seen, whole = [], b'{"images": 7}'

    def answer(handler):
        seen.append(handler.command)
        sent = whole if len(seen) == 2 else half
        if sent:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(whole)))
            handler.end_headers()
            handler.wfile.write(sent)

    with answering(answer) as url:
        client = jaxreloc.Client(url)
        assert client._ask("GET", "/maps/a") == {"images": 7}
        assert seen == ["GET", "GET"]
        with pytest.raises(UsageError, match="no answer"):
            client.add_image(toy_maps.picture(1.0), np.eye(4), name="a", map="a")
        assert seen == ["GET", "GET", "POST"]
