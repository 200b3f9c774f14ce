"""The page of the server in a headless browser: upload, timeline, seek, camera, errors, several users."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from muybridge.engine.train import train
from muybridge.predict import Predictor
from muybridge.serve.config import ServeConfig
from muybridge.serve.run import load_all
from tests.serving import serving, wait_until
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

playwright = pytest.importorskip("playwright.sync_api")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FILM = 'a long, "film".mp4'
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    train(tiny_clip_recipe(write_videos(root / "videos"), epochs=12), root / "light")
    train(tiny_recipe(write_recordings(root / "skeletons"), epochs=2), root / "hands")
    write_film(root / FILM, "libx264")
    write_film(root / "old.avi", "mpeg4")
    return root


def write_film(path: Path, codec: str) -> None:
    """Four seconds in which light grows, fades, grows and fades."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for way in (1, -1, 1, -1):
            for light in np.linspace(40, 200, 12)[::way]:
                picture = np.clip(light + rng.normal(0, 5, (40, 48, 3)), 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def predictors(root: Path) -> dict[str, Predictor]:
    return load_all([root / "light", root / "hands"], "cpu")


@pytest.fixture(scope="module")
def address(predictors: dict[str, Predictor]) -> Iterator[str]:
    with serving(predictors, ServeConfig(port=0, jobs=2)) as (client, _):
        yield str(client.base_url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = play.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page; fails at the end if a script failed, something was blocked, or another address was asked."""
    context = browser.new_context(permissions=["camera"], **options)
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Policy" in message.text else None)
    page.on("request", lambda sent: sent.url.startswith((address, "blob:")) or faults.append(sent.url))
    page.goto(address)
    yield page
    context.close()
    assert faults == []


def until(page: Any, condition: str) -> None:
    """Wait until JavaScript gives true; the page's policy forbids playwright's own way."""
    wait_until(lambda: page.evaluate(condition), 20.0)


def send(page: Any, path: Path) -> None:
    page.wait_for_selector("#takes:not(:empty)")
    page.set_input_files("#file", path)


def test_from_a_file_to_segments_that_are_jumped_to_and_downloaded(browser, address: str, root: Path):
    query, body = {"filename": FILM, "window": 1, "hop": 0.25}, (root / FILM).read_bytes()
    expected = httpx.post(f"{address}/v1/timeline", params=query, content=body).json()
    first, second, *_ = expected["segments"]
    with opened(browser, address) as page:
        page.fill("#window", "1")
        page.fill("#hop", "0.25")
        send(page, root / FILM)
        page.wait_for_selector("#rows tr")
        shown = page.locator("#rows tr").all_inner_texts()
        assert [row.split("\t")[2] for row in shown] == [one["label"] for one in expected["segments"]]
        until(page, "document.getElementById('video').readyState >= 2")
        assert page.inner_text("#now") == first["label"]
        page.locator("#segments button").nth(1).click()
        at = "Math.abs(document.getElementById('video').currentTime - {}) < 0.01"
        until(page, at.format(second["start"]))
        until(page, f"document.getElementById('now').textContent === {json.dumps(second['label'])}")
        assert page.locator("#rows tr.current td").nth(2).inner_text() == second["label"]
        page.focus("#timeline")
        page.keyboard.press("ArrowRight")
        until(page, at.format(second["start"] + 0.25))
        page.keyboard.press("End")
        assert page.get_attribute("#timeline", "aria-valuenow") == "4.00"
        for kind in ("csv", "srt"):
            with page.expect_download() as waiting:
                page.click(f"[data-format={kind}]")
            text = Path(waiting.value.path()).read_bytes()
            assert text == httpx.post(f"{address}/v1/timeline", params=query | {"format": kind}, content=body).content
        with page.expect_download() as waiting:
            page.click("[data-format=json]")
        assert json.loads(Path(waiting.value.path()).read_text())["segments"] == expected["segments"]


def test_where_the_model_looks_is_laid_over_the_video_and_faded(browser, address: str, root: Path):
    pixel = (
        "(() => { const c = document.getElementById('heat'); const at = (x, y) => "
        "[...c.getContext('2d').getImageData(x, y, 1, 1).data]; return at(c.width >> 1, c.height >> 1)[3]; })()"
    )
    with opened(browser, address, viewport={"width": 390, "height": 800}) as page:
        page.fill("#window", "1")
        send(page, root / FILM)
        page.wait_for_selector("#look:not([hidden])")
        until(page, "document.getElementById('video').readyState >= 2")
        assert page.is_hidden("#heat")
        page.click("#look")
        page.wait_for_selector("#fader:not([hidden])")
        assert page.inner_text("#look-note") == "The activation of the predicted class"
        until(page, f"{pixel} > 0")
        strong = page.evaluate(pixel)
        assert page.evaluate("document.activeElement.id") == "fade"
        for _ in range(10):
            page.keyboard.press("ArrowLeft")
        assert page.evaluate(pixel) < strong
        page.fill("#fade", "0")
        assert page.evaluate(pixel) == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        send(page, root / "old.avi")
        page.wait_for_selector("#unplayable:not([hidden])")
        assert page.is_hidden("#looks")


def test_a_model_that_looks_nowhere_says_so(browser, address: str, root: Path):
    with opened(browser, address) as page:
        send(page, root / FILM)
        page.wait_for_selector("#look:not([hidden])")
        refusal = {"error": {"problem": "it has no maps", "expected": "maps", "hint": "choose another model"}}
        page.route("**/v1/maps*", lambda route: route.fulfill(status=422, json=refusal))
        page.click("#look")
        until(page, "document.getElementById('look-note').textContent === 'It has no maps; choose another model.'")
        assert page.is_enabled("#look")


def test_a_failed_file_says_why_and_the_next_one_works(browser, address: str, root: Path):
    bad = root / "bad.mp4"
    bad.write_bytes(b"no video" * 20)
    expected = httpx.post(f"{address}/v1/timeline?filename=bad.mp4", content=bad.read_bytes()).json()["error"]
    with opened(browser, address) as page:
        send(page, bad)
        page.wait_for_selector("#error:not([hidden])")
        shown = page.inner_text("#error")
        assert f"bad.mp4: {expected['problem']}." in shown
        assert f"Expected: {expected['expected']}." in shown
        assert expected["hint"][1:] in shown
        assert page.is_hidden("#result")
        assert page.is_hidden("#progress")
        send(page, root / FILM)
        page.wait_for_selector("#result:not([hidden])")
        assert page.is_hidden("#error")


def test_two_users_at_once(browser, address: str, root: Path):
    with opened(browser, address) as one, opened(browser, address) as other:
        send(one, root / FILM)
        send(other, root / "videos/dusk/d_0.mp4")
        for page, name, frames in ((one, FILM, 48), (other, "d_0.mp4", 12)):
            page.wait_for_selector("#result:not([hidden])")
            assert page.inner_text("#name") == name
            assert f"{frames} frames" in page.inner_text("#facts")


def test_what_the_camera_records_is_answered(browser, address: str):
    with opened(browser, address) as page:
        page.wait_for_selector("#record:not([hidden])")
        page.click("#record")
        until(page, "document.getElementById('camera').currentTime > 1")
        page.click("#stop")
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#name") == "camera.webm"
        assert "640 x 480 pixels" in page.inner_text("#facts")


def test_a_skeleton_is_drawn_moving(browser, address: str, root: Path):
    pixels = "document.getElementById('skeleton').toDataURL()"
    with opened(browser, address, color_scheme="dark") as page:
        page.wait_for_selector("#model-choice:not([hidden])")
        page.select_option("#model", "hands")
        send(page, next((root / "skeletons").glob("a01_s02*")))
        page.wait_for_selector("#skeleton:not([hidden])")
        before = page.evaluate(pixels)
        page.click("#play")
        until(page, "Number(document.getElementById('seek').value) > 0.2")
        until(page, "document.getElementById('play').textContent === 'Play'")
        assert page.evaluate(pixels) != before
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"


def test_a_format_that_browsers_cannot_play_has_a_timeline_on_a_narrow_screen(browser, address: str, root: Path):
    with opened(browser, address, viewport={"width": 360, "height": 700}) as page:
        send(page, root / "old.avi")
        page.wait_for_selector("#unplayable:not([hidden])")
        assert page.is_hidden("#video")
        page.click("#plot", position={"x": 150, "y": 60})
        assert float(page.get_attribute("#timeline", "aria-valuenow")) > 1
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_cancelling_ends_the_request(browser, address: str, root: Path):
    with opened(browser, address) as page:
        page.route("**/v1/timeline*", lambda route: None)
        send(page, root / FILM)
        page.wait_for_selector("#progress:not([hidden])")
        page.click("#cancel")
        page.wait_for_selector("#progress", state="hidden")
        assert page.is_hidden("#error")


def test_a_token_is_asked_for_once(browser, predictors: dict[str, Predictor], root: Path):
    with (
        serving(predictors, ServeConfig(port=0, jobs=1, token="secret")) as (client, _),
        opened(browser, str(client.base_url)) as page,
    ):
        page.wait_for_selector("#token-form:not([hidden])")
        assert page.is_hidden("#input")
        page.fill("#token", "secret")
        page.press("#token", "Enter")
        send(page, root / FILM)
        page.wait_for_selector("#result:not([hidden])")
        page.reload()
        page.wait_for_selector("#takes:not(:empty)")
        assert page.is_hidden("#token-form")
