"""Screenshots of the page, by Debian's Chromium: `python docs/screenshots.py`.

Paints with the bundled model and lays them into `docs/page/`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent / "page"
CHROMIUM = "/usr/bin/chromium"
PROMPT = "a red apple on a blue background"


def main() -> None:
    """Starts a server, paints, and looks."""
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [*(sys.executable, "-m", "kerasdiffusion", "page", "--no-browser")]
        command += ["--port", "0", "--results", folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            where = re.search(r"http://\S+", server.stdout.readline())[0]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                look(browser, where)
                browser.close()
        finally:
            server.terminate()
            server.wait()


def look(browser, where: str) -> None:
    """What a person sees, at a desk and on a phone."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.goto(where)
    paint(page, "a blue fish", "3")
    paint(page, PROMPT, "1", "painting")
    shot(page, "desktop")
    page.click("#kd-send-a-part")
    canvas = page.locator("#kd-editor canvas").first
    canvas.wait_for()
    page.wait_for_timeout(2000)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 40, steps=20)
    page.mouse.move(x - 30, y + 70, steps=20)
    page.mouse.up()
    page.wait_for_timeout(1000)
    shot(page, "part")
    page.close()
    phone = browser.new_page(
        viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True
    )
    phone.goto(where)
    paint(phone, PROMPT, "1")
    phone.locator("#kd-prompt").scroll_into_view_if_needed()
    shot(phone, "phone", full=True)


def paint(page, prompt: str, seed: str, meanwhile: str = "") -> None:
    """Paints as a person does."""
    page.locator("#kd-prompt textarea").fill(prompt)
    page.locator("#kd-seed textarea, #kd-seed input").first.fill(seed)
    page.wait_for_timeout(500)
    page.locator("#kd-prompt textarea").press("Control+Enter")
    page.wait_for_selector("#kd-now img", timeout=120_000)
    if meanwhile:
        page.wait_for_timeout(600)
        shot(page, meanwhile)
    page.wait_for_selector("#kd-now .kd-now", state="detached", timeout=120_000)
    page.wait_for_selector("#kd-gallery img")
    page.wait_for_timeout(1500)


def shot(page, name: str, full: bool = False) -> None:
    """A picture of what is seen, in few colours."""
    path = HERE / f"{name}.png"
    page.screenshot(path=path, full_page=full)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
