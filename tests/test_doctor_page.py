"""The doctor's page in a headless browser: everything is in it, names stay text, and it fits narrow screens."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from muybridge.doctor import examine
from muybridge.viz.doctor_page import write_diagnosis
from tests.tiny import write_videos

playwright = pytest.importorskip("playwright.sync_api")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

HOSTILE = """<img src=x onerror=alert(1)> "quoted", it's & <b>bold"""


def messy_folder(root: Path) -> Path:
    """Copies in two classes, an empty file, a class whose name is HTML, and a name that is too long for a line."""
    write_videos(root)
    (root / "dusk").rename(root / HOSTILE)
    sound = root / "dawn" / "a_0.mp4"
    shutil.copy(sound, root / HOSTILE / f"d_{'long' * 40}.mp4")
    shutil.copy(sound, root / "dawn" / "b_<i>copy.mp4")
    (root / "dawn" / "a_9.mp4").write_bytes(b"")
    return root


def faults_of(page: Any) -> list[str]:
    """What must not happen, noted while the page is used: errors, dialogs, requests to anywhere else."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("dialog", lambda dialog: (faults.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda sent: sent.url.startswith(("file:", "data:")) or faults.append(sent.url))
    return faults


def test_a_messy_folder_on_one_page(tmp_path: Path):
    root = messy_folder(tmp_path / "videos")
    diagnosis = examine("folder_tsn", {"data.root": str(root), "data.group": "/([a-z])_", "model.pretrained": False})
    path = write_diagnosis(diagnosis, tmp_path / "doctor.html")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 360, "height": 700}).new_page()
        faults = faults_of(page)
        page.goto(path.as_uri())
        words = page.inner_text("body")
        assert diagnosis.verdict[1:] in words
        assert HOSTILE in words
        assert "b_<i>copy.mp4" in words
        assert str(root) in page.inner_text("#overview")
        for width in (360, 1200):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
        pictures = page.evaluate("[...document.images].map(one => one.naturalWidth)")
        assert len(pictures) >= 4
        assert min(pictures) > 0
        headings = [text.lower() for text in page.locator("h2").all_inner_texts()]
        assert [finding.check for finding in diagnosis.findings if finding.check.lower() not in headings] == []
        page.click("nav a >> nth=1")
        page.wait_for_function("scrollY > 0")
        assert faults == []
        browser.close()
