"""The report as a browser shows it, with the network off."""

import json

import numpy as np
import pytest

from jaxreloc.evaluation.report import page
from tests.evaluation.report import planted
from tests.evaluation.report.chromium import chromium

pytestmark = pytest.mark.report

CANVASES = ("top", "orbit", "matches", "position-curve", "rotation-curve")


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
        browser.wait_for("document.documentElement.dataset.drawn > 0")
        browser.wait_for("[...document.images].every(i => i.complete || i.loading === 'lazy')")
        return browser

    return show


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


# Of a copy, since Chromium complains of a canvas that is read more than once.
PIXELS = """(canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return context.getImageData(0, 0, copy.width, copy.height).data;
}"""


def colors_in(browser, canvas):
    """How many different colours are drawn on the canvas."""
    pixels = f"({PIXELS})(document.getElementById('{canvas}'))"
    return browser.evaluate(f"new Set(new Uint32Array({pixels}.buffer)).size")


def pixels_of(browser, canvas, name):
    """How many pixels of the canvas have the hue of a colour of the page."""
    return browser.evaluate(
        f"""(() => {{
          const probe = new OffscreenCanvas(1, 1).getContext("2d");
          const style = getComputedStyle(document.documentElement);
          probe.fillStyle = style.getPropertyValue("--{name}");
          probe.fillRect(0, 0, 1, 1);
          const hue = ([r, g, b]) => {{
            const grey = (r + g + b) / 3;
            return [r - grey, g - grey, b - grey];
          }};
          const wanted = hue(probe.getImageData(0, 0, 1, 1).data);
          const size = Math.hypot(...wanted);
          const data = ({PIXELS})(document.getElementById("{canvas}"));
          let count = 0;
          for (let i = 0; i < data.length; i += 4) {{
            if (data[i + 3] < 128) continue;
            const found = hue([data[i], data[i + 1], data[i + 2]]);
            const along = found.reduce((sum, x, k) => sum + x * wanted[k], 0) / size;
            const strong = along > 0.3 * size && along > 0.97 * Math.hypot(...found);
            count += strong;
          }}
          return count;
        }})()"""
    )


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
    browser.wait_for("document.getElementById('matches').height > 200")
    for canvas in CANVASES:
        assert colors_in(browser, canvas) > 20, canvas
    for canvas in ("top", "orbit"):
        for name in ("neighbor", "truth", "estimate"):
            assert pixels_of(browser, canvas, name) > 50, (canvas, name)
    for name in ("inlier", "rejected"):
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
    drawing = "document.getElementById('matches').toDataURL()"
    drawn = browser.evaluate("document.documentElement.dataset.drawn")
    browser.evaluate("document.querySelector('#queries .card').click()")
    browser.wait_for(f"document.documentElement.dataset.drawn > {drawn}")
    with_rejected = browser.evaluate(drawing)
    browser.click("#show-rejected")
    browser.wait_for(f"{drawing} !== {json.dumps(with_rejected)}")
    check_quiet(browser)


def test_a_click_on_the_map_chooses_the_query_there(rng, show):
    scene = planted.scene(rng, num_queries=3, num_failed=0)
    browser = show([scene])
    found = set()
    box = browser.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.getElementById('top').getBoundingClientRect())"
    )
    for u in np.linspace(0.02, 0.98, 50):
        for v in np.linspace(0.02, 0.98, 40):
            browser.press(box[0] + u * box[2], box[1] + v * box[3])
            found.add(text(browser, "#query-name"))
    assert found == set(scene.queries.names)


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
