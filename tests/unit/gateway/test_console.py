"""The console's page as a text: what it may load and run, what it tells before a key is given, and its size."""

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.gateway.caddy import console
from components.gateway.caddy.config import SECRET_LIMIT
from components.models.catalogue import PRESETS
from components.settings import Lane

Check = Callable[[str], None]
PAGE = console.page()
LANE_NAMES = [lane.value for lane in Lane if lane is not Lane.HOME]
"""`home` is a word of the web's, too."""


class Elements(HTMLParser):
    """What the browser finds: every attribute, and the text of each style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in self.inline:
            self._inside = tag
            self.inline[tag].append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.inline[self._inside][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside


def directives(html: str) -> dict[str, set[str]]:
    return {name: set(values) for name, *values in (part.split() for part in console.policy(html).split(";"))}


def hashes(texts: list[str]) -> set[str]:
    return {f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts}


def check_policy(html: str) -> None:
    """The policy names each style and script that the browser finds, and nothing else may run."""
    found, allowed = Elements(html), directives(html)
    assert len(found.inline["script"]) == html.count("<script") > 0
    assert allowed["script-src"] == hashes(found.inline["script"])
    assert allowed["style-src"] == hashes(found.inline["style"])
    assert not [name for _, name, _ in found.attributes if name == "style" or name.startswith("on")]


def check_alone(html: str) -> None:
    """Nothing is loaded: no address but those of the page's own API, and the name of SVG's language in the icon."""
    addresses = set(re.findall(r"(?:[a-z]+:)?//[\w.-]+\.\w[\w/.-]*", html)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    links = [value for _, name, value in Elements(html).attributes if name in ("src", "href", "srcset", "action")]
    assert [link for link in links if not link.startswith("data:")] == []
    assert "@import" not in html
    assert "url(" not in html


def check_says_nothing(html: str) -> None:
    """Anybody may read the page: no lane's name, no model, no version, no part of the stack."""
    words = set(re.findall(r"[\w.-]+", html.lower()))
    assert not words & {*LANE_NAMES, "vllm", "llama.cpp", "caddy", "tailscale", "traefik", "gemma"}
    assert "qwen" not in html.lower()
    assert not [name for name in PRESETS if name in html]


def check_text_only(html: str) -> None:
    """What comes from a model or a lane is never markup."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", html)


def check_keeps(html: str) -> None:
    """The key is the tab's; nothing else is kept."""
    assert "sessionStorage" in html
    assert not re.search(r"localStorage|indexedDB|\.cookie|caches\.", html)


CHECKS = [check_policy, check_alone, check_says_nothing, check_text_only, check_keeps]


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_is_safe(check: Check) -> None:
    check(PAGE)


@pytest.mark.parametrize(
    ("check", "planted"),
    [
        (check_policy, "<script >alert(1)</script>"),
        (check_policy, '<p onclick="alert(1)">'),
        (check_policy, '<p style="color: red">'),
        (check_alone, '<img src="//elsewhere.example/x.png">'),
        (check_alone, "<!-- https://elsewhere.example -->"),
        (check_alone, '<script src="other.js"></script>'),
        (check_says_nothing, "<p>burst</p>"),
        (check_says_nothing, "<p>Qwen3</p>"),
        (check_text_only, "x.innerHTML = text"),
        (check_keeps, "localStorage.setItem('key', key)"),
    ],
)
def test_an_unsafe_page_is_seen(check: Check, planted: str) -> None:
    with pytest.raises(AssertionError):
        check(PAGE.replace("</main>", f"{planted}</main>"))


def test_the_policy_allows_nothing_by_default() -> None:
    allowed = directives(PAGE)
    assert {name: values for name, values in allowed.items() if name not in ("script-src", "style-src")} == {
        "default-src": {"'none'"},
        "connect-src": {"'self'"},
        "img-src": {"data:", "blob:"},
        "base-uri": {"'none'"},
        "form-action": {"'none'"},
        "frame-ancestors": {"'none'"},
        "require-trusted-types-for": {"'script'"},
        "trusted-types": {"'none'"},
    }


def test_the_page_holds_all_its_files_and_fits_a_secret() -> None:
    parts = [path for path in console.SOURCE.parent.iterdir() if path.suffix in (".css", ".js")]
    assert len(parts) > 3
    for part in parts:
        assert part.read_text() in PAGE, part.name
    assert not re.search(r"<link rel=.stylesheet|<script src", PAGE)
    assert len(PAGE.encode()) <= SECRET_LIMIT
    for part in (*parts, console.SOURCE):
        assert len(Path(part).read_text().splitlines()) <= 300, part.name


def test_another_text_is_another_policy_and_another_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    def headers() -> dict[str, list[str]]:
        [route] = console.routes()
        return route["handle"][0]["routes"][0]["handle"][0]["response"]["set"]

    before = headers()
    monkeypatch.setattr(console, "page", lambda: PAGE.replace('"use strict"', '"use strict" '))
    after = headers()
    assert {name for name in before if before[name] != after[name]} == {"Content-Security-Policy", "Etag"}
