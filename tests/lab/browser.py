"""Chromium without a window, driven over its DevTools protocol on two pipes.

Owns: the browser's process, and what a page asked for, said and broke. Does not own: what is expected of a page.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from base64 import b64decode
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tests.kit import happens

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--disable-gpu",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--hide-scrollbars", "--force-color-profile=srgb", "about:blank",
)  # fmt: skip
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39}


class Page:
    """A tab. `requests` are what it sent, `faults` what the browser held against it: policy, errors, exceptions."""

    def __init__(self, browser: "Browser", target: str) -> None:
        self._browser = browser
        self._session: str = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.requests: list[dict[str, Any]] = []
        self.faults: list[str] = []
        browser.pages[self._session] = self
        for domain in ("Page", "Runtime", "Network", "Log", "Audits", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, session=self._session, **params)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """One event of the protocol."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"] | {"id": params["requestId"]})
        elif method == "Runtime.exceptionThrown":
            self.faults.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Audits.issueAdded":
            self.faults.append(params["issue"]["code"])
        elif method == "Log.entryAdded" and params["entry"]["source"] not in ("network", "recommendation"):
            self.faults.append(params["entry"]["text"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """The expression's value, a promise's included."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        # An element would come back as an empty object.
        if not happens(lambda: self.js(f"!!({expression})")):
            raise AssertionError(f"it never happened: {expression}\n{self.js('document.body?.innerText')}")

    def text(self, selector: str) -> str:
        """What a reader sees of an element; empty if it is hidden."""
        return self.js(
            f"((e) => e?.checkVisibility() ? e.innerText : '')(document.querySelector({json.dumps(selector)}))"
        )

    def click(self, selector: str) -> None:
        place = self.js(
            "((e) => { e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            + f"return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            x, y = place
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, selector: str, text: str) -> None:
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def attach(self, selector: str, *files: Path) -> None:
        """Choose files in a form's field."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def body(self, request: dict[str, Any]) -> Any:
        """The JSON that a request carried."""
        return json.loads(self.call("Network.getRequestPostData", requestId=request["id"])["postData"])

    def look(self, width: int, height: int, *, dark: bool = False, scale: int = 1) -> None:
        """The window's size, and the scheme that its user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
            mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, *, whole: bool = True) -> bytes:
        return b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])


class Browser:
    """One process; its pages hear their own events."""

    def __init__(self, to: int, back: int) -> None:
        self.pages: dict[str, Page] = {}
        self._to, self._back = to, os.fdopen(back, "rb")
        self._serials = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._news = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def page(self) -> Page:
        return Page(self, self.call("Target.createTarget", url="about:blank")["targetId"])

    def call(self, method: str, *, session: str = "", **params: Any) -> dict[str, Any]:
        """One command; its answer comes when it is done."""
        serial = next(self._serials)
        asked = {"id": serial, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        with self._news:
            assert self._news.wait_for(lambda: serial in self._answers, 60), f"no answer to {method}"
            answer = self._answers.pop(serial)
        assert "result" in answer, f"{method}: {answer.get('error')}"
        return answer["result"]

    def _read(self) -> None:
        rest = b""
        with self._back:
            while piece := self._back.read1(1 << 20):
                *whole, rest = (rest + piece).split(b"\0")
                for text in whole:
                    self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        if page := self.pages.get(message.get("sessionId", "")):
            page.heard(message.get("method", ""), message.get("params", {}))
        if "id" in message:
            with self._news:
                self._answers[message["id"]] = message
                self._news.notify_all()


@contextlib.contextmanager
def browser() -> Generator[Browser]:
    """A browser with a profile of its own, until the block ends."""
    assert PROGRAM
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # As root Chromium can't build its own sandbox, and says so.
    extra = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Chromium reads from 3 and writes to 4, whatever the pipes' numbers are here.
        command = 'exec "$0" "$@" 3<&' + str(theirs_in) + " 4>&" + str(theirs_out)
        process = subprocess.Popen(
            ["/bin/bash", "-c", command, PROGRAM, f"--user-data-dir={folder}", *extra, *OPTIONS],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        found = Browser(ours_out, ours_in)
        try:
            yield found
        finally:
            with contextlib.suppress(AssertionError, OSError):
                found.call("Browser.close")
            os.close(ours_out)
            process.wait(20)
            found.reader.join(10)
