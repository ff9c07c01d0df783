"""The interface in process: answers are the localizer's, and what is wrong is one sentence."""

import asyncio
import dataclasses
import io
import json
import logging
import re
import struct
import threading
import zlib

import cv2
import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from jaxreloc.formats.localized_poses import json_fields
from jaxreloc.localization.assumed_camera import UNKNOWN_DEVIATION
from jaxreloc.localization.jobs.querying import localized_pose
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.serving.answering.map_shelf import MapShelf
from jaxreloc.serving.application import make_application
from jaxreloc.serving.request_limits import Limits
from tests.serving import toy_maps

TOKEN = "a secret of the tests"
WRITE = {"Authorization": f"Bearer {TOKEN}"}
LIMITS = Limits(max_bytes=200_000, max_pixels=100_000, body_s=5.0, answer_s=60.0, max_waiting=4)
CAMERA = {"fx": 30, "fy": 30, "cx": 15.5, "cy": 11.5}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    toy_maps.install(monkeypatch.setattr)
    toy_maps.make_map(tmp_path / "maps" / "a")
    toy_maps.make_map(tmp_path / "maps" / "b", first=10.0)
    return tmp_path / "maps"


@pytest.fixture
def application(folder):
    shelf = MapShelf(folder, toy_maps.open_localizer, max_bytes=1 << 30)
    return make_application(shelf, limits=LIMITS, write_token=TOKEN)


@pytest.fixture
def client(application):
    with TestClient(application) as opened:
        yield opened


def png(image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def files(content=None, name="q.png"):
    return {"picture": (name, png(toy_maps.picture(4.5)) if content is None else content)}


def localize(client, content=None, name="q.png", map_name="a", **fields):
    return client.post(f"/maps/{map_name}/localize", files=files(content, name), data=fields)


def assert_refused(response, status, *words):
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "request"} and body["request"]
    assert body["request"] == response.headers["x-request-id"]
    assert "\n" not in body["error"] and len(body["error"]) < 300
    for word in words:
        assert word in body["error"], body["error"]


def test_an_answer_is_the_localizers(client, folder):
    locate = toy_maps.open_localizer(folder / "a")
    for x in (2.3, 4.5):
        image = toy_maps.picture(x)
        response = localize(client, png(image), **CAMERA)
        assert response.status_code == 200, response.text
        found = locate(image, toy_maps.INTRINSICS)
        expected = json.loads(json.dumps(json_fields(localized_pose("q.png", found))))
        answer = response.json()
        assert answer.pop("total_ms") > 0 and expected.pop("total_ms") > 0
        assert {name: answer[name] for name in expected} == expected
        assert answer["map"] == "a"
        assert [x["image"] for x in answer["neighbors"]] == [
            locate.scene_map.names[i] for i in found.neighbors
        ]
        agree = list(found.location_inliers & found.success)
        assert [x["agrees"] for x in answer["neighbors"]] == agree
        assert answer["camera"] == CAMERA | {"width": 32, "height": 24, "source": "given"}
        assert abs(answer["world_from_cam"][0][3] - x) < 0.05


def test_intrinsics_are_the_forms_or_exifs_or_the_maps(client):
    image, file, exif = toy_maps.picture(4.5), io.BytesIO(), Image.Exif()
    exif[0x8769] = {0xA405: 36}
    Image.fromarray(image).save(file, "png", exif=exif)
    by_exif = localize(client, file.getvalue()).json()["camera"]
    assert by_exif["source"] == "exif"
    assert by_exif["fx"] == pytest.approx(36 * np.hypot(32, 24) / np.hypot(36, 24))
    assert localize(client, file.getvalue(), **CAMERA).json()["camera"]["source"] == "given"
    of_map = localize(client).json()["camera"]
    assert of_map["source"] == "map" and of_map["fx"] == pytest.approx(30)


class FocalFinder(toy_maps.MeanOfNeighbors):
    """Finds 1.25 times the focal length that a search begins at."""

    finds_focal_length = True

    def _solve(self, query, centre, success):
        found = super()._solve(query, centre, success)
        if query.view.focal_deviation is None:
            return found
        focal_px = 1.25 * query.intrinsics[0, 0]
        return dataclasses.replace(
            found, focal_px=focal_px, focal_deviation=query.view.focal_deviation
        )


def test_a_focal_length_that_nobody_tells_is_searched_once_the_map_is_ready(folder):
    ready = threading.Event()

    def opening(path):
        localizer = toy_maps.open_localizer(path)
        localizer.method = FocalFinder(localizer.scene_map)
        return localizer

    def prepare_search(localizer):
        return ready.wait(60) and localizer.method.finds_focal_length

    shelf = MapShelf(folder, opening, max_bytes=1 << 30, prepare_search=prepare_search)
    with TestClient(make_application(shelf, limits=LIMITS)) as client:
        before = localize(client).json()
        assert before["camera"]["fx"] == pytest.approx(30) and "focal_px" not in before
        ready.set()
        assert shelf.get("a").result(60).searches.wait(60)
        after = localize(client).json()
        assert after["camera"]["fx"] == after["camera"]["fy"] == pytest.approx(37.5)
        assert after["camera"]["source"] == "map" and after["focal_px"] == pytest.approx(37.5)
        assert after["focal_deviation"] == pytest.approx(UNKNOWN_DEVIATION)
        given = localize(client, **CAMERA).json()
        assert given["camera"]["fx"] == CAMERA["fx"] and "focal_px" not in given


def test_a_prior_limits_the_neighbours(client):
    answer = localize(client, near="6,1,0,2.5", **CAMERA).json()
    assert sorted(x["image"] for x in answer["neighbors"]) == [f"{i}.png" for i in range(4, 9)]
    assert answer["success"] and abs(answer["world_from_cam"][0][3] - 4.5) < 0.05
    for wrong in ("1,2,3", "a,b,c,d", "1,2,3,nan", "0,0,0,-1", "0,0,0,0", "1," * 5000):
        assert_refused(localize(client, near=wrong, **CAMERA), 422, "near")
    assert_refused(localize(client, near="99,0,0,1", **CAMERA), 422, "no image of the map")


def test_maps_are_described(client):
    assert [x["name"] for x in client.get("/maps").json()] == ["a", "b"]
    one = client.get("/maps/b").json()
    assert one["name"] == "b" and one["images"] == 9 and one["extent"] == [8.0, 0.0, 0.0]
    cameras = client.get("/maps/b/cameras").json()
    assert cameras["names"] == [f"{i}.png" for i in range(9)] and cameras["points"] == []
    assert [pose[3] for pose in cameras["poses"]] == list(np.arange(10.0, 19.0))
    left, top, right, bottom = cameras["tangents"][0]
    assert (right - left) * 30 == pytest.approx(32) and (bottom - top) * 30 == pytest.approx(24)
    jpeg = client.get("/maps/b/images/3.png")
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(jpeg.content, np.uint8), 1).shape[2] == 3
    assert_refused(client.get("/maps/b/images/x.png"), 404, "no image of this name")


@pytest.mark.parametrize(
    "path", ["/maps/x", "/maps/%2e%2e", "/maps/%00", "/maps/..%5c", "/maps/x/cameras"]
)
def test_an_unknown_map_is_404(client, path):
    assert_refused(client.get(path), 404, "no map of this name")
    assert_refused(localize(client, map_name="x", **CAMERA), 404, "no map of this name")


@pytest.mark.parametrize(
    "path", ["/maps/%2e%2e/%2e%2e/etc/passwd", "/maps/..%2fa", "/nothing", "/page/../../x"]
)
def test_no_path_leads_elsewhere(client, path):
    assert_refused(client.get(path), 404)


def bomb(width, height) -> bytes:
    """A PNG that says it is so large, and whose pixels would unpack."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize(
    "content, fields, status, words",
    [
        (b"some text, named .jpg", {}, 415, ["no readable"]),
        (b"", {}, 400, ["empty"]),
        (bomb(30_000, 30_000), {}, 413, ["million pixels"]),
        (bomb(400, 400), {}, 413, ["0.1 million pixels"]),
        (png(np.zeros((24, 32, 3), np.uint8))[:60], {}, 415, ["no readable"]),
        (png(np.zeros((8, 32, 3), np.uint8)), {}, 422, ["no photograph"]),
        (b"\x00" * 250_000, {}, 413, ["more than 0.2 MB"]),
        (None, {"fx": 30}, 422, ["fy is missing"]),
        (None, {"fx": 30, "fy": 30, "cx": 15.5, "cy": ""}, 422, ["cy"]),
        (None, CAMERA | {"fx": "wide"}, 422, ["fx"]),
        (None, CAMERA | {"fx": "nan"}, 422, ["intrinsics"]),
        (None, CAMERA | {"fx": -30}, 422, ["fx fy cx cy = -30"]),
        (None, CAMERA | {"fx": 3000}, 422, ["fx fy cx cy = 3000"]),
        (None, CAMERA | {"cx": 500}, 422, ["principal point"]),
    ],
)
def test_bad_input_is_a_status_and_a_sentence(client, content, fields, status, words):
    assert_refused(localize(client, content, "q.jpg", **fields), status, *words)
    assert localize(client, **CAMERA).json()["success"]  # and the next one is served


def test_what_is_no_form_is_refused(client):
    path = "/maps/a/localize"
    assert_refused(client.post(path, content=b"raw"), 422, "picture")
    assert_refused(client.post(path, data={"picture": "text"}), 422, "picture")
    kind = {"content-type": "multipart/form-data"}
    assert_refused(client.post(path, content=b"--x", headers=kind), 400, "no proper one")
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post(path, content=b"--x\r\n\xff", headers=kind).status_code in (400, 422)
    assert_refused(client.get(path), 405)


def test_maps_change_with_the_token_alone(client, folder):
    image = png(toy_maps.picture(20.0))
    pose = np.eye(4)
    pose[:3, 3] = 20.0, 1.0, 0.0
    fields = CAMERA | {"world_from_cam": json.dumps(pose.tolist()), "image": "new.png"}
    path, before = "/maps/a/images", map_files.generation(folder / "a")
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": TOKEN}):
        response = client.post(path, files=files(image), data=fields, headers=headers)
        assert_refused(response, 401, "token")
        assert_refused(client.delete(f"{path}/0.png", headers=headers), 401, "token")
    wrong = [
        (fields | {"world_from_cam": "1"}, 422, "world_from_cam"),
        (fields | {"world_from_cam": "[[1,2],[3,4]]"}, 422, "world_from_cam"),
        (fields | {"world_from_cam": json.dumps((2 * pose).tolist())}, 422, "rigid"),
        (fields | {"world_from_cam": "[" * 100_000}, 422, "world_from_cam"),
        *((fields | {"image": name}, 422, "name") for name in ("../x.png", ".x.png", "a/b.png")),
        *((fields | {"image": name}, 422, "name") for name in ("x.txt", "a\nb.png", "x" * 300)),
        (fields | {"image": "0.png"}, 409, "already"),
        ({"image": "new.png"}, 422, "world_from_cam"),
    ]
    for changed, status, word in wrong:
        response = client.post(path, files=files(image), data=changed, headers=WRITE)
        assert_refused(response, status, word)
    assert map_files.generation(folder / "a") == before  # nothing was written
    response = client.post(path, files=files(image), data=fields, headers=WRITE)
    assert response.status_code == 201
    assert response.json() == {"map": "a", "image": "new.png", "images": 10}
    near = localize(client, image, near="20,1,0,0.5", **CAMERA).json()
    assert [x["image"] for x in near["neighbors"]] == ["new.png"]
    response = client.delete(f"{path}/new.png", headers=WRITE)
    assert response.json() == {"map": "a", "image": "new.png", "images": 9}
    assert_refused(client.delete(f"{path}/new.png", headers=WRITE), 404, "no image")
    assert len(SceneMap.open(folder / "a")) == 9


def test_without_a_token_nothing_is_written(folder):
    shelf = MapShelf(folder, toy_maps.open_localizer, max_bytes=1 << 30)
    with TestClient(make_application(shelf)) as client:
        for headers in (WRITE, {"Authorization": "Bearer None"}, {"Authorization": "Bearer "}):
            response = client.delete("/maps/a/images/0.png", headers=headers)
            assert_refused(response, 403, "changes no map")
    assert len(SceneMap.open(folder / "a")) == 9


def test_a_map_that_changes_on_disk_is_swapped(client, folder):
    assert client.get("/maps/a").json()["images"] == 9
    map_files.remove(folder / "a", ["0.png"])
    seen = set()
    for _ in range(200):
        answer = localize(client, **CAMERA)
        assert answer.status_code == 200 and answer.json()["success"]
        seen.add(client.get("/maps/a").json()["images"])
        if seen == {8} or len(seen) == 2:
            break
    assert 8 in seen
    assert "jaxreloc_map_swaps 1.0" in client.get("/metrics").text


def test_a_full_queue_is_429_and_what_waits_is_answered_together(folder):
    go, begun, batches = threading.Event(), threading.Event(), []

    class Held(toy_maps.ToyLocalizer):
        def __call__(self, *arguments, **options):
            begun.set()
            assert go.wait(60)
            return super().__call__(*arguments, **options)

        def localize_all(self, images, *arguments, **options):
            batches.append(len(images))
            return super().localize_all(images, *arguments, **options)

    shelf = MapShelf(folder, lambda path: Held(SceneMap.open(path)), max_bytes=1 << 30)
    application = make_application(shelf, limits=LIMITS)

    async def run():
        transport = httpx2.ASGITransport(application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://a") as client:

            def ask(x):
                return client.post(
                    "/maps/a/localize", files=files(png(toy_maps.picture(x))), data=CAMERA
                )

            places = [2.0, 2.5, 3.0, 3.5, 4.0]
            asked = [asyncio.create_task(ask(places[0]))]
            await asyncio.to_thread(begun.wait, 60)
            asked += [asyncio.create_task(ask(x)) for x in places[1:]]
            while "jaxreloc_waiting 4.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
            refused = await ask(5.0)
            go.set()
            return places, refused, await asyncio.gather(*asked), await ask(6.0)

    places, refused, answered, after = asyncio.run(run())
    assert_refused(refused, 429, "try again in")
    assert int(refused.headers["retry-after"]) >= 1
    for x, response in zip(places, answered, strict=True):
        assert abs(response.json()["world_from_cam"][0][3] - x) < 0.05
    assert batches == [4] and after.status_code == 200


def test_no_answer_in_time_is_503(folder):
    go = threading.Event()

    class Slow(toy_maps.ToyLocalizer):
        def __call__(self, *arguments, **options):
            go.wait(60)
            return super().__call__(*arguments, **options)

    shelf = MapShelf(folder, lambda path: Slow(SceneMap.open(path)), max_bytes=1 << 30)
    with TestClient(make_application(shelf, limits=Limits(answer_s=0.3))) as client:
        response = localize(client, **CAMERA)
        assert_refused(response, 503, "no answer within 0.3 s")
        assert response.headers["retry-after"]
        go.set()


def test_a_damaged_map_says_so_and_others_are_served(client, folder):
    (folder / "b" / "network.safetensors").write_bytes(b"another")
    for _ in range(2):
        assert_refused(localize(client, map_name="b", **CAMERA), 503, "log says why")
    assert localize(client, **CAMERA).json()["success"]


def test_an_unforeseen_error_is_a_500_without_its_text(folder, caplog):
    class Failing(toy_maps.ToyLocalizer):
        def __call__(self, *arguments, **options):
            raise ZeroDivisionError("a secret path")

    shelf = MapShelf(folder, lambda path: Failing(SceneMap.open(path)), max_bytes=1 << 30)
    with TestClient(make_application(shelf)) as client:
        response = localize(client, **CAMERA)
        assert_refused(response, 500, "unforeseen")
        assert "secret" not in response.text and "a secret path" in caplog.text
        assert client.get("/healthz").json() == {"status": "ok"}


def test_a_request_has_a_line_of_the_log_with_its_id(client, caplog):
    caplog.set_level(logging.INFO, "jaxreloc.serving")
    answer = client.post(
        "/maps/a/localize", files=files(), data=CAMERA, headers={"X-Request-ID": "mine-1"}
    )
    assert answer.headers["x-request-id"] == "mine-1"
    client.get("/maps/x%0Afake%20line", headers={"X-Request-ID": "not plain"})
    lines = [r.message for r in caplog.records if r.message.startswith("request")]
    form = r"request mine-1: POST /maps/a/localize gave 200 in \d+ ms: localized in a batch of 1 "
    assert re.match(form, lines[0]), lines
    assert re.match(r"request [0-9a-f]{12}: GET /maps/x%0Afake%20line gave 404 in ", lines[1])
    assert all("\n" not in line for line in lines)


def test_health_readiness_and_figures(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    localize(client, **CAMERA)
    assert client.get("/readyz").json() == {"status": "ready"}
    localize(client, b"text", **CAMERA)
    text = client.get("/metrics").text
    route = 'route="/maps/{name}/localize"'
    assert f'jaxreloc_requests_total{{method="POST",{route},status="200"}} 1.0' in text
    assert f'jaxreloc_requests_total{{method="POST",{route},status="415"}} 1.0' in text
    assert 'jaxreloc_queries_total{map="a",outcome="localized"} 1.0' in text
    for name in ("batch_size_sum 1.0", "wait_seconds_count 1.0", "open_maps 1.0", "waiting 0.0"):
        assert f"jaxreloc_{name}" in text


def test_before_a_map_is_open_the_server_is_not_ready(folder):
    go = threading.Event()

    def late(path):
        assert go.wait(60)
        return toy_maps.open_localizer(path)

    shelf = MapShelf(folder, late, max_bytes=1 << 30)
    with TestClient(make_application(shelf)) as client:
        assert client.get("/healthz").status_code == 200
        assert_refused(client.get("/readyz"), 503, "no map is open yet")
        go.set()
        assert localize(client, **CAMERA).json()["success"]
        assert client.get("/readyz").status_code == 200


def test_other_origins_are_told_of_only_if_named(client, folder):
    origin = {"Origin": "https://elsewhere.example"}
    assert "access-control-allow-origin" not in client.get("/maps", headers=origin).headers
    shelf = MapShelf(folder, toy_maps.open_localizer, max_bytes=1 << 30)
    named = make_application(shelf, cors_origins=("https://elsewhere.example",))
    with TestClient(named) as other:
        allowed = other.get("/maps", headers=origin).headers["access-control-allow-origin"]
        assert allowed == "https://elsewhere.example"
        headers = {"Origin": "https://third.example"}
        assert "access-control-allow-origin" not in other.get("/maps", headers=headers).headers


def test_the_interface_describes_itself_with_examples(client):
    described = client.get("/openapi.json").json()
    paths = {(path, method) for path, entry in described["paths"].items() for method in entry}
    assert paths == {
        *(("/maps", "get"), ("/maps/{name}", "get"), ("/maps/{name}/cameras", "get")),
        *(("/maps/{name}/localize", "post"), ("/maps/{name}/images", "post")),
        *(("/maps/{name}/images/{image}", "get"), ("/maps/{name}/images/{image}", "delete")),
        *(("/healthz", "get"), ("/readyz", "get"), ("/metrics", "get")),
    }
    responses = described["paths"]["/maps/{name}/localize"]["post"]["responses"]
    example = responses["200"]["content"]["application/json"]["example"]
    answer = localize(client, **CAMERA).json()
    assert set(example) == set(answer) and set(example["camera"]) == set(answer["camera"])
    assert "error" in responses["429"]["content"]["application/json"]["example"]


def test_the_page_and_its_script_come_from_here(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html") and "jaxreloc" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy
    for path in ("/page.js", "/page.css", "/plotly.js"):
        assert client.get(path).status_code == 200
    plain = client.get("/plotly.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and len(plain.content) > 1_000_000


def test_a_refused_picture_is_an_answer_with_its_reason(client):
    answer = localize(client, png(toy_maps.picture(0.0)), **CAMERA)
    assert answer.status_code == 200
    body = answer.json()
    assert body["success"] is False and body["reason"] == "too few matches agree"
    assert "world_from_cam" not in body and not any(x["agrees"] for x in body["neighbors"])
    assert 'outcome="refused"} 1.0' in client.get("/metrics").text
