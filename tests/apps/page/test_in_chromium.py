"""The page in a real Chromium: a person's ten minutes, as one script.

Debian's `chromium`, and Playwright to drive it.
"""

import shutil

import pytest

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
    """Waits until a browser has so many results, and gives them, the latest first."""
    page.wait_for_function(
        "count => document.querySelectorAll('#kd-gallery .thumbnail-item').length"
        " >= count || document.querySelectorAll('#kd-gallery img').length >= count",
        arg=count,
    )
    page.wait_for_selector("#kd-now .kd-now", state="detached")
    return list(reversed(server.core.kept.all()))
