"""The page in a real Chromium: a person's ten minutes, as one script.

Debian's `chromium`, and Playwright to drive it.
"""

import shutil

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.pictures.metadata import read_parameters

pytestmark = pytest.mark.heavy
SECOND = 1000
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium():
    """A browser; a test that needs one fails where there is none."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "apt-get install chromium"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture
def visit(chromium, server):
    """Opens the page in a browser of its own, or in that of another visit."""
    opened = []

    def visiting(context=None, **options):
        context = context or chromium.new_context(**{"viewport": DESKTOP} | options)
        page = context.new_page()
        page.set_default_timeout(60 * SECOND)
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda told: page.said.append((told.type, told.text)))
        page.goto(f"{server.url}/page/")
        page.wait_for_selector("#kd-prompt textarea")
        opened.append(context)
        return page

    yield visiting
    for context in set(opened):
        context.close()


def write(page, name, text):
    page.locator(f"#{name} textarea, #{name} input").first.fill(str(text))


def open_part(page, name):
    page.locator(f"#{name} > button").first.click()


def choose(page, name, text):
    page.locator(f"#{name} input").first.click()
    page.get_by_role("option", name=text, exact=True).first.click()


def painted(page, server, count):
    """Waits for so many results with pictures; gives them, the latest first."""
    for _ in range(600):
        found = [x for x in reversed(server.core.kept.all()) if x["parameters"]]
        wrong = page.locator("#kd-now .kd-problem")
        assert wrong.count() == 0, wrong.inner_text()
        if len(found) >= count:
            break
        page.wait_for_timeout(SECOND / 10)
    assert len(found) == count
    page.wait_for_selector("#kd-now .kd-now", state="detached")
    page.wait_for_timeout(SECOND / 2)
    return found


def pixels(server, record, number=0):
    with Image.open(server.core.kept.picture(record["id"], number)) as image:
        return np.asarray(image)


def test_ten_minutes_of_a_person(visit, server, tmp_path):
    page = visit()

    # Paints in one click after writing, and nobody else is asked for anything.
    write(page, "kd-prompt", "a red apple")
    open_part(page, "kd-more")
    write(page, "kd-steps", 3)
    page.click("#kd-paint")
    (first,) = painted(page, server, 1)
    assert all(url.startswith((server.url, "data:", "blob:")) for url in page.asked)
    assert "tokens" in page.locator(".kd-count").first.inner_text()

    # What is downloaded is the file that is kept, to the byte.
    with page.expect_download() as download:
        page.locator("#kd-gallery button[title='Download']").first.click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    kept = server.core.kept.picture(first["id"], 0)
    assert path.read_bytes() == kept.read_bytes()
    assert path.name == f"a-red-apple-{read_parameters(path)['seed']}.png"

    # Ctrl+Enter paints too; cancel ends it between two steps.
    write(page, "kd-steps", 1000)
    page.locator("#kd-prompt textarea").press("Control+Enter")
    page.wait_for_selector("#kd-now img")
    page.click("#kd-cancel")
    page.wait_for_selector("#kd-now .kd-now", state="detached")
    assert server.core.queue.counts() == (0, 0)
    painted(page, server, 1)
    write(page, "kd-steps", 3)

    # A part of it: what is drawn is painted anew, nothing else; a stroke is taken back.
    page.click("#kd-send-a-part")
    canvas = page.locator("#kd-editor canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(SECOND)
    box = canvas.bounding_box()
    stroke(page, box, (0.42, 0.3), (0.42, 0.7))
    page.locator("#kd-editor button[title='Undo']").click()
    stroke(page, box, (0.5, 0.35), (0.6, 0.45))
    page.wait_for_timeout(SECOND)
    write(page, "kd-prompt", "two cats")
    page.click("#kd-paint")
    second, first = painted(page, server, 2)
    changed = (pixels(server, first) != pixels(server, second)).any(axis=-1)
    assert second["task"] == "inpaint"
    assert 0 < changed.mean() < 0.4
    rows, columns = np.nonzero(changed)
    assert columns.min() > 12 and rows.max() < 24  # (the stroke that was taken back)

    # Beyond its edges, by arrows.
    page.click("#kd-send-beyond-it")
    page.click("#kd-left-more")
    page.click("#kd-top-more")
    page.click("#kd-paint")
    third = painted(page, server, 3)[0]
    assert third["task"] == "outpaint" and pixels(server, third).shape == (40, 40, 3)

    # A dropped picture brings all its settings back, and paints the same again.
    page.locator("#kd-drop input[type=file]").set_input_files(str(path))
    page.wait_for_function(
        "() => document.querySelector('#kd-prompt textarea').value === 'a red apple'"
    )
    assert page.locator("#kd-restored").inner_text() == "Its settings are here."
    page.click("#kd-paint")
    fourth = painted(page, server, 4)[0]
    np.testing.assert_array_equal(pixels(server, fourth), pixels(server, first))

    # A grid.
    open_part(page, "kd-grid")
    choose(page, "kd-axis-x", "Steps")
    write(page, "kd-values-x", "1,2")
    choose(page, "kd-axis-y", "Seed")
    write(page, "kd-values-y", "1-2")
    page.click("#kd-paint-grid")
    assert painted(page, server, 9)[0]["task"] == "grid"

    # It is all there when the page is loaded anew.
    page.reload()
    page.wait_for_selector("#kd-prompt textarea")
    page.get_by_role("tab", name="History").click()
    page.wait_for_function(
        "() => document.querySelectorAll('#kd-past img').length >= 9"
    )
    assert not [text for kind, text in page.said if kind == "error"]


def stroke(page, box, start, end):
    """Draws with the mouse, by shares of a canvas."""
    x, y = (box["x"] + box["width"] * start[0]), (box["y"] + box["height"] * start[1])
    page.mouse.move(x, y)
    page.mouse.down()
    x, y = (box["x"] + box["width"] * end[0]), (box["y"] + box["height"] * end[1])
    page.mouse.move(x, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(SECOND / 2)


def test_presets_are_the_browsers_own(visit):
    page = visit()
    write(page, "kd-prompt", "a kept prompt")
    write(page, "kd-seed", "18446744073709551615")
    open_part(page, "kd-kept")
    write(page, "kd-preset-name", "mine")
    page.click("#kd-keep")
    page.wait_for_function(
        "() => document.querySelector('#kd-presets input').value === 'mine'"
    )
    page.reload()
    page.wait_for_selector("#kd-prompt textarea")
    page.wait_for_timeout(SECOND)
    open_part(page, "kd-kept")
    choose(page, "kd-presets", "mine")
    page.click("#kd-take")
    page.wait_for_function(
        "() => document.querySelector('#kd-seed input, #kd-seed textarea').value"
        " === '18446744073709551615'"
    )
    assert page.locator("#kd-prompt textarea").input_value() == "a kept prompt"
    stranger = visit()
    open_part(stranger, "kd-kept")
    stranger.locator("#kd-presets input").click()
    assert stranger.get_by_role("option", name="mine").count() == 0


def test_a_reload_while_it_paints_goes_on(visit, server):
    page = visit()
    write(page, "kd-prompt", "long")
    open_part(page, "kd-more")
    write(page, "kd-steps", 1000)
    page.click("#kd-paint")
    page.wait_for_selector("#kd-now img")
    (job,) = server.core.queue.running()
    page.reload()
    page.wait_for_selector("#kd-now .kd-bar")
    assert not job.has_ended
    page.click("#kd-cancel")
    page.wait_for_selector("#kd-now .kd-now", state="detached")
    assert job.state == "cancelled"


def test_who_closes_the_page_is_not_painted_for(visit, server):
    page = visit()
    write(page, "kd-prompt", "long")
    open_part(page, "kd-more")
    write(page, "kd-steps", 1000)
    page.click("#kd-paint")
    page.wait_for_selector("#kd-now img")
    (job,) = server.core.queue.running()
    page.close()
    other = visit()
    for _ in range(600):
        if job.has_ended:
            break
        other.wait_for_timeout(SECOND / 10)
    assert job.state == "cancelled"


def test_it_is_usable_at_a_phones_width_and_in_the_dark(visit, server):
    page = visit(viewport=PHONE, color_scheme="dark", has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    dark = "() => document.body.classList.contains('dark')"
    assert page.evaluate(dark)
    page.locator("#kd-dark").tap()
    assert not page.evaluate(dark)
    paint = page.locator("#kd-paint")
    paint.scroll_into_view_if_needed()
    assert paint.bounding_box()["height"] >= 44  # a finger's
    before = len(server.core.kept.all())
    page.locator("#kd-seed textarea, #kd-seed input").first.scroll_into_view_if_needed()
    there = paint.bounding_box()
    assert 0 < there["y"] and there["y"] + there["height"] <= PHONE["height"]
    page.locator("#kd-prompt textarea").fill("two cats")
    paint.tap()
    for _ in range(300):
        if len(server.core.kept.all()) > before:
            break
        page.wait_for_timeout(SECOND / 10)
    page.wait_for_selector("#kd-gallery img")
    page.wait_for_timeout(2 * SECOND)
    assert page.locator("#kd-gallery").bounding_box()["y"] < PHONE["height"] / 2
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
