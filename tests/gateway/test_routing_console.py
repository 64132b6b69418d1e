"""The console's page through the real Caddy: who gets it, with which headers, and that it is all there is."""

from collections.abc import Iterator
from hashlib import sha256

import pytest

from components.gateway.caddy import console
from tests.gateway.routing import environment, patient, rendered, settings
from tests.gateway.world import World, world

LEAKED = "not for you"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Caddy with the page where the secret is mounted, and files beside it that nobody may see."""
    folder = tmp_path_factory.mktemp("console")
    (folder / console.FILE).write_text(console.page())
    (folder / "other.html").write_text(LEAKED)
    (folder / "inner").mkdir()
    (folder / "inner" / console.FILE).write_text(LEAKED)
    chosen = settings(gateway={"wait_s": 5, "timeout_s": 60})
    mounted = environment(chosen) | {console.FOLDER_VARIABLE: str(folder)}
    with world() as found, found.caddy(patient(rendered(chosen)), mounted):
        yield found


def test_anybody_gets_the_page(here: World) -> None:
    answer = here.call("GET", "/", None, Authorization="")
    assert (answer.status, answer.lane, answer.body.decode()) == (200, "gateway", console.page())
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == console.policy(console.page())
    assert answer.headers["cache-control"] == "no-cache"
    assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert not {"set-cookie", "server"} & answer.headers.keys()


def test_head_is_get_without_the_page(here: World) -> None:
    got, head = (here.call(method, "/", None) for method in ("GET", "HEAD"))
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(got.body)))
    assert head.headers["etag"] == got.headers["etag"]


def test_it_is_sent_again_only_if_it_is_another(here: World) -> None:
    """Whenever it was mounted."""
    tag = here.call("GET", "/", None).headers["etag"]
    assert tag == f'"{sha256(console.page().encode()).hexdigest()[:32]}"'
    assert here.call("GET", "/", None, If_None_Match=tag).status == 304
    assert here.call("GET", "/", None, If_None_Match='"another"').status == 200


@pytest.mark.parametrize(
    "path",
    ["/index.html", "/other.html", "/inner", "/inner/", "/inner/index.html", "/?/other.html", "/../caddy.json",
     "/%2e%2e/", "/.", "/%2fother.html", "//other.html", "/\\other.html",
     "//elsewhere.example/..", "/elsewhere.example/.."],
)  # fmt: skip
def test_no_other_path_leads_to_the_folder(here: World, path: str) -> None:
    answer = here.call("GET", path, None)
    if answer.status == 200:
        assert answer.body.decode() == console.page(), "another spelling of the same place"
    assert answer.status in (200, 400, 404)
    assert "location" not in answer.headers
    assert LEAKED.encode() not in answer.body


def test_only_reading_is_allowed(here: World) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = here.call(method, "/", None)
        assert (answer.status, answer.error["code"]) == (404, "not_found"), method
    assert (here.home.begun, here.vm.begun) == (0, 0)
