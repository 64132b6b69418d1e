"""Which lines of the logs are errors, and of whom."""

from pathlib import Path

import pytest

from lab.run import logs
from lab.run.logs import Logs, error_in

CADDY = '{"severity":"%s","time":"2026-11-28T15:08:03.202153428Z","logger":"x","message":"%s"%s}'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (CADDY % ("info", "server running", ""), ""),
        (CADDY % ("warn", "exiting; byeee!!", ""), ""),
        (
            CADDY % ("error", "loading config", ',"error":"address in use"'),
            "2026-11-28T15:08:03Z loading config: address in use",
        ),
        (
            CADDY % ("error", "handled request", ',"request":{"method":"POST","uri":"/v1/completions"},"status":503'),
            "2026-11-28T15:08:03Z handled request: POST /v1/completions: 503",
        ),
        (CADDY % ("error", "handled request", ',"request":{"method":"GET","uri":"/v1/lanes"},"status":503'), ""),
        (CADDY % ("error", "handled request", ',"request":{"method":"GET","uri":"/ready"},"status":503'), ""),
        (
            '{"severity": "ERROR", "time": "2026-11-28T15:08:03.110Z", "message": "no new ID token", "lane": "burst"}',
            "2026-11-28T15:08:03Z no new ID token",
        ),
        ('{"severity": "CRITICAL", "message": "the pilot can\'t start"}', "the pilot can't start"),
        ('{"severity": "WARNING", "message": "home is down: an ERROR"}', ""),
        ('{"severity": "ERROR", "mess', ""),
        (
            "\x1b[90m2026-11-28T14:58:57Z\x1b[0m \x1b[31mERR\x1b[0m \x1b[1mCannot start the provider\x1b[0m",
            "2026-11-28T14:58:57Z ERR Cannot start the provider",
        ),
        ("\x1b[90m2026-11-28T14:58:57Z\x1b[0m \x1b[33mWRN\x1b[0m Traefik can reject some characters", ""),
        ("0.03.536.508 E srv  load_model: failed to load model",) * 2,
        ("0.03.536.508 I srv          init: model loaded", ""),
        ("ValueError: no such model",) * 2,
        ("aiohttp.client_exceptions.ClientError: gone",) * 2,
        ("pilotlight: the pilot is away (python ended with status 137); next try in 1 s",) * 2,
        ("pilotlight: the pilot is away (python ended with status 0); next try in 1 s", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_error_in_a_line(line: str, told: str) -> None:
    assert error_in(line) == told


def test_last_error_of_each_log_since_the_lab_began(tmp_path: Path) -> None:
    old, new, quiet = (tmp_path / f"{name}.log" for name in ("home-vllm", "gateway-pilot", "vm-model"))
    old.write_text("ValueError: of yesterday\n")
    quiet.write_text("ValueError: of yesterday\n")
    seen = Logs(tmp_path)
    assert seen.last_errors() == {}
    new.write_text("KeyError: first\nOSError: second\nall is well\n")
    with old.open("a") as log:
        log.write("ValueError: of today\n")
    assert seen.last_errors() == {"gateway-pilot": "OSError: second", "home-vllm": "ValueError: of today"}


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    seen = Logs(tmp_path)
    (tmp_path / "a.log").write_text("OSError: far away\n" + "x" * logs.TAIL + "\n")
    assert seen.last_errors() == {}
