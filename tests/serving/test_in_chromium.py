"""The page as a browser shows it: run by `make test-web`."""

import base64
import json
import urllib.request

import numpy as np
import pytest

from tests.chromium import chromium
from tests.serving import processes, toy_maps
from tests.serving.processes import form, running

pytestmark = pytest.mark.web
WIDTH, HEIGHT = 1180, 900
ODD = "b <img src=x onerror=alert(1)>"  # a map's name


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = processes.folder_of_maps(tmp_path_factory.mktemp("served"))
    toy_maps.make_map(folder / "maps" / ODD, first=10.0)
    with running("-m", "tests.serving.toy_server", folder) as started:
        yield started


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser, server):
    browser.problems.clear()
    browser.requests.clear()
    browser.visit(server.url, width=WIDTH, height=HEIGHT)
    browser.wait_for("document.getElementById('status').textContent.includes('9 cameras')")
    return browser


def text(page, name):
    return page.evaluate(f"document.getElementById({json.dumps(name)}).textContent")


def drop(page, content: bytes, name="q.png", kind="image/png"):
    """What a browser sends when a file is let go over the page."""
    data = base64.b64encode(content).decode()
    page.evaluate(
        f"""(() => {{
        const bytes = Uint8Array.from(atob({json.dumps(data)}), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], {json.dumps(name)}, {{ type: {json.dumps(kind)} }}));
        document.getElementById("drop").dispatchEvent(
          new DragEvent("drop", {{ dataTransfer: transfer, bubbles: true, cancelable: true }}));
        }})()"""
    )


def png(x_metres):
    body = form(toy_maps.picture(x_metres), boundary="cut")
    return body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--cut--")[0]


def by_the_api(server, x_metres, name="a"):
    request = urllib.request.Request(
        f"{server.url}/maps/{name}/localize",
        form(toy_maps.picture(x_metres)),
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def wait_for_answer(page):
    page.wait_for(
        "document.getElementById('status').textContent.startsWith('Answered')"
        " && !document.getElementById('neighbors-box').hidden"
    )


def test_a_dropped_picture_gives_the_pose_of_the_api(page, server):
    for x in (2.3, 6.1):
        drop(page, png(x))
        wait_for_answer(page)
        shown = np.array(page.evaluate("document.getElementById('pose').value").split(), float)
        answer = by_the_api(server, x)
        np.testing.assert_array_equal(shown.reshape(4, 4), answer["world_from_cam"])
        assert text(page, "verdict") == "The picture is localized"
        assert "of 100 answers" in text(page, "meaning")
        assert f"{answer['num_inliers']} of {answer['num_neighbors']} agree" in text(page, "facts")
        captions = "[...document.querySelectorAll('figcaption')].map((x) => x.textContent)"
        names = [f"{n['image']}{': agrees' if n['agrees'] else ''}" for n in answer["neighbors"]]
        assert page.evaluate(captions) == names
        places = "document.getElementById('view').data.at(-1).x"
        up = np.array(json.loads(server.get("/maps/a/cameras"))["upright_from_world"])
        centre = up @ np.array(answer["world_from_cam"])[:3, 3]
        np.testing.assert_allclose(page.evaluate(places), centre[:1], atol=1e-5)
    assert page.problems == []


def test_a_bad_file_gives_the_message_and_the_next_one_is_answered(page):
    drop(page, b"some text", "q.jpg", "image/jpeg")
    page.wait_for("document.getElementById('status').classList.contains('problem')")
    assert text(page, "status").startswith("The picture is no readable JPEG")
    assert page.evaluate("document.getElementById('answer').hidden") is True
    drop(page, png(0.0))  # black
    page.wait_for("!document.getElementById('answer').hidden")
    assert text(page, "verdict") == "The picture is not localized"
    assert "too few matches agree" in text(page, "meaning")
    assert page.evaluate("document.getElementById('pose-box').hidden") is True
    drop(page, png(4.0))
    wait_for_answer(page)
    assert text(page, "verdict") == "The picture is localized"


def test_names_are_text_and_all_comes_from_the_server(page, server):
    options = "[...document.getElementById('map').options].map((x) => x.textContent)"
    assert page.evaluate(options) == ["a", ODD]
    page.evaluate(
        f"(() => {{ const m = document.getElementById('map'); m.value = {json.dumps(ODD)};"
        " m.dispatchEvent(new Event('change')); })()"
    )
    page.wait_for("document.getElementById('view').data[0].x.length === 9 &&"
                  " document.getElementById('status').textContent.includes('9 cameras')")
    drop(page, png(12.0), name="<b>.png")
    wait_for_answer(page)
    assert page.evaluate("document.querySelectorAll('img').length") == 1
    own = (server.url, f"blob:{server.url}", "data:")
    assert page.requests and all(x.startswith(own) for x in page.requests), page.requests
    assert page.problems == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_of_it(browser, server, dark):
    browser.problems.clear()
    browser.visit(server.url, width=360, height=740, dark=dark)
    browser.wait_for("document.getElementById('status').textContent.includes('9 cameras')")
    drop(browser, png(3.0))
    wait_for_answer(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    camera = "document.getElementById('camera').getAttribute('capture')"
    assert browser.evaluate(camera) == "environment"
    assert browser.problems == []
