"""HAProxy, from Debian: one thread, kept connections, and where a table wants it its queue or its retries."""

import contextlib
from collections.abc import Generator, Sequence

from bench.processes import started
from bench.systems.system import VM, Lane, Place, Running, System, find


def _config(port: int, lanes: Sequence[Lane], max_requests: int) -> str:
    limit = f" maxconn {max_requests}" if max_requests else ""
    checks = " check inter 500ms fall 1 rise 1 observe layer7" if len(lanes) > 1 else ""
    servers = "\n".join(
        f"    server {lane.name} {lane.address}{limit}{checks}{' backup' if number else ''}"
        for number, lane in enumerate(lanes)
    )
    again = "option redispatch 1\n    retries 2\n    retry-on all-retryable-errors\n    option httpchk GET /health"
    return f"""
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 1s
    timeout client 300s
    timeout server 300s
    timeout queue 120s
    http-reuse always
    option http-buffer-request
frontend public
    bind 127.0.0.1:{port}
    default_backend lanes
backend lanes
    {again if len(lanes) > 1 else "retries 0"}
{servers}
"""


def system(lanes: Sequence[Lane] = (VM,), max_requests: int = 0) -> System:
    """In front of `lanes`, the first first; each with `max_requests` slots; 0: any number."""
    program = find("haproxy")

    @contextlib.contextmanager
    def start(place: Place) -> Generator[Running]:
        file = place.folder / "haproxy.cfg"
        file.write_text(_config(place.port, lanes, max_requests))
        with started("haproxy", [program, "-db", "-f", str(file)], place.core, place.folder) as process:
            yield Running(f"127.0.0.1:{place.port}", [process])

    return System("HAProxy", start, "" if program else "Debian's package haproxy is not installed", tuple(lanes))
