"""The report as a browser shows it, with the network off."""

import dataclasses
import json
import time

import cv2
import numpy as np
import pytest

from jaxreloc.evaluation.report import page
from jaxreloc.evaluation.report.content import upright
from tests.chromium import chromium
from tests.evaluation.report import planted

pytestmark = pytest.mark.report

MATCH_COLORS = ("inlier", "rejected")
PLOTS = ("top", "orbit", "matches", "position-curve", "rotation-curve")


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def show(browser, tmp_path):
    """Writes a report and opens it."""

    def show(scenes, *, width=1360, dark=False):
        path = tmp_path / "report.html"
        page.write_report(path, "Rooms", scenes)
        browser.problems.clear()
        browser.requests.clear()
        browser.open(path, width=width, height=1800, dark=dark)
        wait_until_drawn(browser)
        browser.wait_for("[...document.images].every(i => i.complete || i.loading === 'lazy')")
        return browser

    return show


def wait_until_drawn(browser):
    """Until whatever was asked for is drawn."""
    root = "document.documentElement.dataset"
    browser.wait_for(f"{root}.asked && {root}.drawn === {root}.asked")


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def pixels(browser, plot):
    """The element as RGB."""
    shot = np.frombuffer(browser.screenshot(f"#{plot}"), np.uint8)
    return cv2.imdecode(shot, cv2.IMREAD_COLOR)[..., ::-1]


def colors_in(browser, plot):
    """How many different colours are drawn."""
    return len(np.unique(pixels(browser, plot).reshape(-1, 3), axis=0))


def pixels_of(browser, plot, name):
    """How many pixels have the hue of a colour of the page."""
    style = "getComputedStyle(document.documentElement)"
    written = browser.evaluate(f"{style}.getPropertyValue('--{name}').trim().slice(1)")
    wanted = np.array(list(bytes.fromhex(written)), float)
    wanted -= wanted.mean()
    found = pixels(browser, plot).astype(float)
    found -= found.mean(axis=-1, keepdims=True)
    size = np.linalg.norm(wanted)
    along = found @ wanted / size
    strong = (along > 0.3 * size) & (along > 0.97 * np.linalg.norm(found, axis=-1))
    return int(strong.sum())


def length(metres):
    if metres < 0.01:
        return f"{1000 * metres:.1f} mm"
    return f"{100 * metres:.1f} cm" if metres < 1 else f"{metres:.2f} m"


def angle(degrees):
    return f"{degrees:.2f}°" if degrees < 10 else f"{degrees:.1f}°"


def check_quiet(browser):
    assert browser.problems == []
    fetched = [url for url in browser.requests if not url.startswith("data:")]
    assert len(fetched) == 1 and fetched[0].startswith("file:")


def test_numbers_and_pictures(rng, show):
    scene = planted.scene(rng, num_database=14, num_queries=7, num_failed=2)
    browser = show([scene])
    summary = scene.summary("network")
    assert text(browser, "[data-field=database] b") == "14"
    assert text(browser, "[data-field=queries] b") == "7"
    assert text(browser, "[data-field=localized] b") == "5 of 7"
    assert text(browser, "[data-field=medianPosition] b") == length(summary.median_position_m)
    assert text(browser, "[data-field=medianRotation] b") == angle(summary.median_rotation_deg)
    for key in scene.estimates:
        row, of_method = f"#results [data-method={key}] ", scene.summary(key)
        assert text(browser, row + "[data-field=medianPosition]") == length(
            of_method.median_position_m
        )
        for i, recall in enumerate(of_method.recalls):
            shown = float(text(browser, row + f"[data-field=recall{i}]").rstrip("%"))
            assert shown == pytest.approx(100 * recall, abs=0.51)
        assert text(browser, row + "[data-field=failed]") == str(of_method.num_failed)
    for plot in PLOTS:
        assert colors_in(browser, plot) > 20, plot
    for plot in ("top", "orbit"):
        for name in ("neighbor", "truth", "estimate", "rejected"):
            assert pixels_of(browser, plot, name) > (5 if name == "rejected" else 50), (plot, name)
    for name in MATCH_COLORS:
        assert pixels_of(browser, "matches", name) > 200, name
    for name in ("series-0", "series-1"):
        assert pixels_of(browser, "position-curve", name) > 50, name
    check_quiet(browser)


def test_choosing_a_query_a_neighbour_and_a_method(rng, show):
    scene = planted.scene(rng, num_queries=5, num_failed=1)
    browser = show([scene])
    browser.click("#queries .card:nth-child(3)")
    assert text(browser, "#query-name") == "query/002.png"
    errors = scene.errors("network")
    assert f"position error {length(errors.position_m[2])}" in text(browser, "#query-facts")
    assert f"rotation error {angle(errors.rotation_deg[2])}" in text(browser, "#query-facts")
    browser.click("#neighbors .card:nth-child(2)")
    pair = scene.pictures[2].matches[1]
    assert f"{pair.inliers.sum()} of {len(pair.inliers)} matches" in text(browser, "#pair-facts")
    browser.click("#next")
    browser.click("#next")
    assert "not localized" in text(browser, "#query-facts")
    browser.click("#method button:first-child")
    assert text(browser, "[data-field=localized] b") == "5 of 5"
    browser.click("#queries .card:nth-child(1)")
    wait_until_drawn(browser)
    shown = {name: pixels_of(browser, "matches .plot-container", name) for name in MATCH_COLORS}
    assert min(shown.values()) > 200
    browser.click("#matches .legendtoggle")  # of the rejected ones
    browser.wait_for("document.querySelectorAll('#matches .scatterlayer .trace').length === 1")
    assert pixels_of(browser, "matches .scatterlayer", "rejected") == 0
    assert pixels_of(browser, "matches .scatterlayer", "inlier") > 200
    check_quiet(browser)


def place(browser, point):
    """Where the window shows a point of the top view, given in the world's axes."""
    return browser.evaluate(
        f"""(() => {{
          const box = document.getElementById("top").getBoundingClientRect();
          const {{ xaxis, yaxis }} = document.getElementById("top")._fullLayout;
          const [x, y] = {json.dumps([float(v) for v in point[:2]])};
          return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)];
        }})()"""
    )


def test_a_click_on_the_map_chooses_the_query_there(rng, show):
    """Of queries a metre apart, each of which lies away from the database."""
    scene = planted.scene(rng, num_queries=3, num_failed=0)
    truth = scene.queries.world_from_cam
    offset = 3.0 * np.eye(3) + [5.0, 5.0, 0.0] - truth[:, :3, 3]
    moved = [truth, *(e.world_from_query for e in scene.estimates.values())]
    for poses in moved:
        poses[:, :3, 3] += offset
    browser = show([scene])
    up = upright(scene.database.world_from_cam)
    for i in (2, 0, 1):
        at = up @ scene.estimates["network"].world_from_query[i, :3, 3]
        wait_until_drawn(browser)
        time.sleep(0.5)  # two presses in a row are a double click
        browser.press(*place(browser, at))
        browser.wait_for(f"document.getElementById('query-name').textContent === 'query/00{i}.png'")
    check_quiet(browser)


def test_a_name_in_the_map_is_text(rng, show):
    scene = planted.scene(rng, num_queries=1, num_failed=0)
    name = "<i>a</i> &amp; <b onclick=\"alert(1)\">.png"
    scene.queries.world_from_cam[:, :3, 3] += 9.0
    for estimates in scene.estimates.values():
        estimates.world_from_query[:, :3, 3] += 9.0
    queries = dataclasses.replace(scene.queries, names=(name,))
    titled = {"network": dataclasses.replace(scene.estimates["network"], title=name)}
    browser = show([dataclasses.replace(scene, queries=queries, estimates=titled)])
    up = upright(scene.database.world_from_cam)
    at = up @ scene.estimates["network"].world_from_query[0, :3, 3]
    browser.move(*place(browser, at))
    browser.wait_for("document.querySelector('#top .hovertext text') !== null")
    assert text(browser, "#top .hovertext text").startswith(name)
    assert text(browser, "#position-curve .legendtext") == name
    check_quiet(browser)


def test_scenes_dark_and_narrow(rng, show):
    attic = planted.scene(rng, name="<i>attic</i>", num_database=20)
    browser = show([planted.scene(rng, name="hall"), attic], width=390, dark=True)
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 25)"
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.evaluate(
        "(() => { const s = document.getElementById('scene'); s.value = 1;"
        " s.dispatchEvent(new Event('change')); })()"
    )
    assert text(browser, "#scene option:nth-child(2)") == "<i>attic</i>"
    assert text(browser, "[data-field=database] b") == "20"
    assert colors_in(browser, "top") > 20
    check_quiet(browser)


def test_queries_without_truth_have_no_errors(rng, show):
    browser = show([planted.scene(rng, truth=False, matches=False, num_failed=2)])
    assert browser.evaluate("document.querySelector('[data-field=medianPosition]')") is None
    assert browser.evaluate("document.getElementById('curves-panel').hidden")
    assert text(browser, "#results [data-method=network] [data-field=localized]") == "3"
    assert colors_in(browser, "orbit") > 20
    check_quiet(browser)


def test_every_query_may_have_failed(rng, show):
    browser = show([planted.scene(rng, num_queries=3, num_failed=3)])
    assert text(browser, "[data-field=medianPosition] b") == "failed"
    assert text(browser, "[data-field=localized] b") == "0 of 3"
    check_quiet(browser)
