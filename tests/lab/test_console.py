"""The console in a real browser, at the address of a running lab."""

import json
import re
import struct
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.kit import until
from tests.lab.browser import PROGRAM, Browser, Page, browser
from tests.lab.running import Running, detached

pytestmark = [
    pytest.mark.usefixtures("declared_addresses"),
    pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed"),
]
UNUSED_MS = 5 * 60 * 1000
STRANGE = "<img src=x onerror='document.title=1'><script>document.title=2</script>"


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    lanes = ["--config", 'lanes=["home","burst","vm"]', "--cold-start", "8"]
    with detached("--fake-models", "--answer-in", "0.4", *lanes) as text:
        found = Running(text)
        found.settle("home")
        yield found
        found.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def page(running: Running, chromium: Browser) -> Iterator[Page]:
    """The page before a key is given, at a desk. Whatever a test does: one origin, no policy broken, nothing kept."""
    found = chromium.page()
    found.look(1280, 860)
    found.open(address(running))
    yield found
    sent = {request["url"] for request in found.requests if not request["url"].startswith("data:")}
    assert {url for url in sent if not url.startswith(address(running))} == set()
    assert found.faults == []
    assert found.js("[document.cookie, localStorage.length]") == ["", 0]
    found.call("Page.close")


def address(running: Running) -> str:
    return running.outputs["base_url"].removesuffix("v1")


def enter(page: Page, key: str) -> None:
    page.write("#key", key)
    page.press("Enter")


def entered(page: Page, running: Running) -> None:
    enter(page, running.key)
    page.until("document.querySelector('#pulse').textContent === 'live'")


def say(page: Page, text: str) -> None:
    page.write("#text", text)
    page.press("Enter")


def asked(page: Page, path: str) -> list[dict[str, Any]]:
    return [request for request in page.requests if request["url"].endswith(path)]


def lanes(running: Running) -> dict[str, Any]:
    return running.http.get("/lanes", headers=running.authorized).json()["lanes"]


# --- the door ---------------------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_told_and_nothing_asked(page: Page) -> None:
    assert "Your key" in page.text("#door")
    assert not page.text("#room")
    assert {request["url"] for request in page.requests if "/v1/" in request["url"]} == set()
    assert page.js("document.activeElement.id") == "key"


def test_a_wrong_key_opens_nothing_and_is_not_kept(page: Page) -> None:
    enter(page, "sk-wrong-key-0123456789")
    page.until("document.querySelector('#door-says').textContent.includes('opens nothing')")
    assert not page.text("#room")
    assert page.js("sessionStorage.length") == 0
    assert len(asked(page, "/v1/models")) == 1


def test_what_is_no_key_is_not_sent(page: Page) -> None:
    enter(page, "ключ")
    page.until("document.querySelector('#door-says').textContent.includes('be a key')")
    assert asked(page, "/v1/models") == []


def test_a_key_lives_as_long_as_the_tab(page: Page, running: Running, chromium: Browser) -> None:
    entered(page, running)
    page.open(address(running))
    page.until("document.querySelector('#pulse').textContent === 'live'")
    other = chromium.page()
    other.open(address(running))
    assert "Your key" in other.text("#door")
    page.click("#forget")
    assert page.js("sessionStorage.length") == 0
    assert not page.text("#room")
    for told in (running.key, running.model, "vm"):
        assert told not in page.js("document.body.innerText")


# --- behind it --------------------------------------------------------------------------------------------------------


def test_an_open_page_shows_the_lanes_and_wakes_none(page: Page, running: Running) -> None:
    before = lanes(running)
    entered(page, running)
    for name, lane in before.items():
        assert lane["state"] in page.text(f"[data-name={name}] .chip"), name
        assert f"0 of {lane['capacity']} in flight" in page.text(f"[data-name={name}]")
    count = len(asked(page, "/v1/lanes"))
    until(lambda: len(asked(page, "/v1/lanes")) >= count + 4, "it asks on")
    after = lanes(running)
    for name in before:
        assert [after[name][key] for key in ("state", "since", "in_flight")] == [
            before[name][key] for key in ("state", "since", "in_flight")
        ]
    assert (after["burst"]["state"], after["burst"]["wakes"]) == ("cold", 0)


def test_an_answer_streams_and_says_who_gave_it(page: Page, running: Running) -> None:
    entered(page, running)
    running.behave("home", token_interval=0.2)
    try:
        say(page, "hello")
        page.until("document.querySelector('[data-role=assistant] .said').textContent.includes('token1')")
        assert "token5" not in page.text("[data-role=assistant] .said"), "it comes as it is made"
        page.until("!document.querySelector('.working')")
    finally:
        running.http.delete(f"{running.fakes['home']}/_fault").raise_for_status()
    assert page.text("[data-role=assistant] .said").startswith("BACKEND:home token1")
    assert page.text(".served") == "home"
    assert re.search(r"first token 0\.\d\d\ss · whole \d\.\d\ss · 8\stokens", page.text("[data-role=assistant] .meta"))
    page.until("/0\\.\\d\\d\\ss/.test(document.querySelector('[data-name=home] b').textContent)")
    page.until("document.querySelector('[data-name=home] .stroke').getAttribute('d').includes('L')")
    say(page, "and now?")
    page.until("document.querySelectorAll('.served').length === 2")
    roles = [message["role"] for message in page.body(asked(page, "/completions")[-1])["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_what_a_model_says_is_text(page: Page, running: Running) -> None:
    entered(page, running)
    page.js(
        "window.fetch = ((real) => (url, options) => url.includes('chat') ? Promise.resolve(new Response('data: '"
        f" + JSON.stringify({{choices: [{{delta: {{content: {json.dumps(STRANGE)}}}, finish_reason: 'stop'}}]}})"
        " + '\\n\\ndata: [DONE]\\n\\n', {headers: {'X-Served-By': '<b>lane</b>'}})) : real(url, options))(fetch)"
    )
    say(page, STRANGE)
    page.until("document.querySelector('.served')")
    assert page.text("[data-role=assistant] .said") == page.text("[data-role=user] .said") == STRANGE
    assert page.text(".served") == "<b>lane</b>"
    assert page.js("[document.title, document.querySelectorAll('#messages script, #messages b').length]") == [
        "pilotlight",
        0,
    ]


def test_a_picture_is_made_small_before_it_leaves(page: Page, running: Running, tmp_path: Path) -> None:
    entered(page, running)
    file = tmp_path / "photo.png"
    Image.effect_noise((2400, 1200), 60).save(file)
    page.attach("#file", file)
    page.until("document.querySelector('#picture .small').textContent.startsWith('1024 \u00d7 512')")
    say(page, "What is it?")
    page.until("document.querySelector('.served')")
    [text, picture] = page.body(asked(page, "/completions")[-1])["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    kind, _, content = picture["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert size_of(b64decode(content)) == (1024, 512)
    assert len(content) < 1024 * 1024 < file.stat().st_size
    file.write_text("no picture")
    page.attach("#file", file)
    page.until("document.querySelector('#picture .small').textContent.includes('no picture')")


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height by the file's own frame header."""
    [frame] = re.findall(rb"\xff[\xc0\xc2]\x00.\x08(....)", jpeg[:2000], re.DOTALL)
    height, width = struct.unpack(">HH", frame)
    return width, height


def test_a_cold_start_is_seen_as_it_happens(page: Page, running: Running) -> None:
    entered(page, running)
    with running.broken("home-refused"):
        page.until("document.querySelector('[data-name=home] .chip').textContent.startsWith('down')")
        say(page, "hello")
        page.until("/^starting, [3-7]/.test(document.querySelector('[data-name=burst] .chip').textContent)")
        assert page.text("[data-name=burst] progress") is not None
        assert not page.js("document.querySelector('[data-name=burst] progress').hidden")
        page.until("document.querySelector('[data-name=burst] .chip').textContent.startsWith('warm')")
        assert page.js("document.querySelector('[data-name=burst] progress').hidden")
        page.until("!document.querySelector('.working')")
        assert page.text(".served") in ("vm", "burst")
    running.settle("home")


def test_without_the_pilot_the_page_says_so_and_the_chat_works(page: Page, running: Running) -> None:
    entered(page, running)
    with running.broken("pilot-down"):
        page.until("document.querySelector('#pulse').textContent === 'no status'")
        assert "the chat works" in page.text("#notice")
        say(page, "hello")
        page.until("document.querySelector('.served')")
    page.until("document.querySelector('#pulse').textContent === 'live'")
    assert not page.text("#notice")


def test_an_endpoint_without_a_pilot_has_a_chat_all_the_same(page: Page, running: Running) -> None:
    """As with the VM as the only lane, where nothing answers `/v1/lanes`."""
    page.js(
        "window.fetch = ((real) => (url, options) => url.includes('lanes')"
        " ? Promise.resolve(new Response('{}', {status: 404})) : real(url, options))(fetch)"
    )
    enter(page, running.key)
    page.until("document.querySelector('#pulse').textContent === 'no status'")
    assert "shows no lanes" in page.text("#notice")
    say(page, "hello")
    page.until("document.querySelector('.served')")


def test_an_error_is_told_with_its_code_and_sent_again_on_a_press(page: Page, running: Running) -> None:
    entered(page, running)
    body = json.dumps({"error": {"message": "No model server could answer in time. Try again.", "code": "no_lane"}})
    page.js(
        f"window.told = () => new Response({json.dumps(body)}, {{status: 503, headers: {{'Retry-After': '1'}}}});"
        "window.real = fetch; window.fetch = (u, o) => u.includes('chat') ? Promise.resolve(told()) : real(u, o)"
    )
    say(page, "hello")
    page.until("document.querySelector('[data-role=error] button')")
    assert "503 · no_lane No model server could answer" in page.text("[data-role=error] .meta")
    assert page.text("[data-role=error] button") == "Try again in 1 s"
    page.until("!document.querySelector('[data-role=error] button').disabled")
    page.js("window.fetch = real, 0")
    page.click("[data-role=error] button")
    page.until("document.querySelector('.served')")
    assert not page.js("document.querySelector('[data-role=error]')")


def test_a_stream_that_breaks_is_no_answer(page: Page, running: Running) -> None:
    entered(page, running)
    running.behave("home", reset="mid-stream")
    try:
        say(page, "hello")
        page.until("document.querySelector('[data-role=error]')")
    finally:
        running.http.delete(f"{running.fakes['home']}/_fault").raise_for_status()
    assert "broken_stream" in page.text("[data-role=error] .meta")
    assert "BACKEND:home" in page.text("[data-role=error] .said"), "what came stays"


@pytest.mark.parametrize("by", ["Escape", "Stop"])
def test_an_answer_is_stopped(page: Page, running: Running, by: str) -> None:
    entered(page, running)
    running.behave("home", token_interval=2)
    try:
        say(page, "hello")
        page.until("document.querySelector('[data-role=assistant] .said').textContent")
        if by == "Escape":
            page.press(by)
        else:
            assert page.text("#send") == by
            page.click("#send")
        page.until("!document.querySelector('.working')")
        until(lambda: lanes(running)["home"]["in_flight"] == 0, "the lane is free again")
    finally:
        running.http.delete(f"{running.fakes['home']}/_fault").raise_for_status()
    assert "stopped" in page.text("[data-role=assistant] .meta")


def test_the_code_has_this_endpoint_s_address_and_model(page: Page, running: Running) -> None:
    entered(page, running)
    for tab in ("curl", "python", "javascript"):
        page.click(f"#tab-{tab}")
        code = page.text("#code")
        assert running.outputs["base_url"] in code, tab
        assert running.model in code, tab
        assert running.key not in page.js("document.body.innerHTML")
    page.js("document.querySelector('#tab-curl').focus()")
    page.press("ArrowRight")
    assert page.js("document.activeElement.id") == "tab-python"
    compile(page.text("#code"), "snippet", "exec")


# --- an awake gateway costs money -------------------------------------------------------------------------------------


def asks_no_more(page: Page) -> bool:
    """Over twice the time between two questions."""
    page.until("document.querySelector('#pulse').textContent === 'paused'")
    count = len(asked(page, "/v1/lanes"))
    time.sleep(4.5)
    return len(asked(page, "/v1/lanes")) == count


def test_a_page_that_nobody_touches_stops_asking(page: Page, running: Running) -> None:
    entered(page, running)
    page.js(f"(() => {{ const real = Date.now; Date.now = () => real() + {UNUSED_MS} + 1000; }})()")
    assert asks_no_more(page)
    assert "Paused" in page.text("#notice")
    page.click("#notice button")
    page.until("document.querySelector('#pulse').textContent === 'live'")
    assert not page.text("#notice")


def test_a_page_that_nobody_sees_stops_asking(page: Page, running: Running) -> None:
    entered(page, running)
    page.js(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true}),"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    assert asks_no_more(page)
    page.js("delete document.hidden, document.dispatchEvent(new Event('visibilitychange'))")
    page.until("document.querySelector('#pulse').textContent === 'live'")


# --- on a phone and at a desk -----------------------------------------------------------------------------------------

CONTRAST = Path(__file__).with_name("contrast.js").read_text()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_fits_and_can_be_read(page: Page, running: Running, width: int, dark: bool) -> None:
    """No sideways scrolling, no field or button without a name, and a contrast of at least 4.5 (WCAG 2.2, AA)."""
    page.look(width, 844, dark=dark)
    assert page.js(CONTRAST) == []
    entered(page, running)
    say(page, "hello")
    page.until("document.querySelector('.served')")
    assert page.js("document.documentElement.scrollWidth") <= width
    for tone in ("good", "busy", "calm", "bad"):
        page.js(f"document.querySelectorAll('[data-tone]').forEach((each) => (each.dataset.tone = '{tone}'))")
        assert page.js(CONTRAST) == []
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node for node in nodes if node.get("role", {}).get("value") in ("button", "textbox", "tab", "progressbar")
    ]
    assert len(controls) > 6
    assert [node for node in controls if not node["name"]["value"]] == []
