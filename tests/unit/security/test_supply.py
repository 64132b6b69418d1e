"""The audit fails on what it finds and says where it can't look; the bill of materials names all that is declared."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from components.settings.stack import Settings
from tests.supply import audit, sbom
from tests.supply.audit import AuditError, Found

HOLE = Found("somepackage", "1.0", frozenset({"PYSEC-1", "CVE-1"}), ("1.1",))
ENTRY = {"id": "CVE-1", "package": "somepackage", "reason": "not called", "until": date(2030, 1, 31)}
DAY = date(2030, 1, 1)


# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holes", "entries", "day", "said"),
    [
        ([], [], DAY, []),
        ([HOLE], [], DAY, ["somepackage 1.0: CVE-1, PYSEC-1, fixed in 1.1"]),
        ([HOLE], [ENTRY], DAY, []),
        ([HOLE, HOLE], [ENTRY], date(2030, 1, 31), []),
        ([HOLE], [ENTRY], date(2030, 2, 1), ["accepted until 2030-01-31: not called"]),
        ([HOLE], [{**ENTRY, "id": "CVE-2"}], DAY, ["somepackage 1.0", "CVE-2 is accepted and not found"]),
        ([HOLE], [{**ENTRY, "package": "another"}], DAY, ["somepackage 1.0", "CVE-1 is accepted and not found"]),
        ([], [ENTRY], DAY, ["CVE-1 is accepted and not found: take it out"]),
    ],
    ids=[
        "nothing",
        "a hole",
        "accepted",
        "its last day",
        "too long",
        "another hole's",
        "another package's",
        "left over",
    ],
)
def test_a_hole_fails_unless_it_is_accepted_for_now(
    holes: list[Found], entries: list[dict[str, Any]], day: date, said: list[str]
) -> None:
    wrong = audit.judged(holes, entries, day)
    assert len(wrong) == len(said), wrong
    assert all(part in line for part, line in zip(said, wrong, strict=True)), wrong


@pytest.mark.parametrize("lacks", ["reason", "until", "package"])
def test_what_is_accepted_has_a_reason_and_a_day(tmp_path: Path, lacks: str) -> None:
    lines = {"id": '"CVE-1"', "package": '"a"', "reason": '"not called"', "until": "2030-01-31"} | {lacks: '""'}
    if lacks == "package":
        del lines[lacks]
    file = tmp_path / "accepted.toml"
    file.write_text("[[accepted]]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items()))
    with pytest.raises(AuditError, match="an entry has id, package, reason and until"):
        audit.accepted(file)


def test_the_list_is_read() -> None:
    assert isinstance(audit.accepted(), list)


def test_without_a_way_to_osv_it_says_so_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main("http://127.0.0.1:9/v1/query") == 0
    assert capsys.readouterr().out.startswith("not run: the audit of the locked packages (OSV can't be asked: ")


# --- pip-audit itself, with a stand-in of OSV -------------------------------------------------------------------------


@contextmanager
def osv(vulnerable: str) -> Generator[str]:
    """Answers in OSV's form, of one package with one hole."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = question.get("package", {}).get("name")
            affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]}]  # fmt: skip
            hole = {"id": "PYSEC-2030-1", "aliases": ["CVE-2030-1"], "summary": "a hole", "affected": affected}
            body = json.dumps({"vulns": [hole]} if name == vulnerable else {}).encode()
            self.send_response(200 if name else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_pip_audit_finds_a_hole_in_a_locked_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    lock, accepted = tmp_path / "requirements.txt", tmp_path / "accepted.toml"
    lock.write_text("".join(f"{name}==1.0 --hash=sha256:{'0' * 64}\n" for name in ("good", "holey")))
    accepted.write_text("accepted = []")
    with osv("holey") as url:
        assert audit.main(url, [lock], accepted) == 1
        assert "audit: holey 1.0: CVE-2030-1, PYSEC-2030-1, fixed in 99" in capsys.readouterr().out
        entry = '[[accepted]]\nid = "CVE-2030-1"\npackage = "holey"\nreason = "none"\nuntil = 9999-01-01\n'
        accepted.write_text(entry)
        assert audit.main(url, [lock], accepted) == 0
    with osv("another") as url:
        lock.write_text("this is no lock")
        accepted.write_text("accepted = []")
        assert audit.main(url, [lock], accepted) == 1, "what can't be read is not sound"


# --- the bill of materials --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    return sbom.bill()


def test_the_bill_is_cyclonedx_and_always_the_same(bill: dict[str, Any]) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    assert sbom.bill() == bill


def test_a_bill_of_another_form_is_seen(bill: dict[str, Any]) -> None:
    wrong = {**bill, "components": [{**bill["components"][0], "licence": "none"}]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(wrong)) is not None


def test_it_names_packages_images_charts_and_weights(bill: dict[str, Any]) -> None:
    found = {(one["type"], one["name"]): one for one in bill["components"]}
    settings = Settings(stack="dev", project="project", region="us-central1")
    declared = [settings.gateway.caddy_image, settings.gateway.tailscale_image, settings.gateway.pilot_image,
                settings.burst.image, settings.vm.server_image]  # fmt: skip
    for image in declared:
        name, _, tag = image.partition("@")[0].rpartition(":")
        assert ("container", name) in found, name
        assert tag in {one["version"] for one in bill["components"] if one["name"] == name}
    assert found["library", "pulumi"]["scope"] == "required"
    assert found["library", "pytest"]["scope"] == "excluded", "no part of what is deployed"
    assert ("application", "nvidia-device-plugin") in found
    assert ("application", "k3s-io/k3s") in found
    assert any(one["type"] == "file" and one["name"].endswith(".gguf") and one["hashes"] for one in bill["components"])


def test_an_image_with_a_digest_is_named_by_it() -> None:
    found = sbom._image(f"ghcr.io/a/b:1.2.3@sha256:{'ab' * 32}")  # pyright: ignore[reportPrivateUsage]
    assert (found["name"], found["version"]) == ("ghcr.io/a/b", "1.2.3")
    assert found["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
