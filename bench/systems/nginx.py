"""nginx, from Debian: one worker, kept connections, and where a table wants it its retries."""

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

from bench.processes import started
from bench.systems.system import VM, Lane, Place, Running, System, find


def _config(folder: Path, port: int, lanes: Sequence[Lane]) -> str:
    servers = "".join(
        f"server {lane.address}{' backup' if number else ''} max_fails=1 fail_timeout=2s; "
        for number, lane in enumerate(lanes)
    )
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    keepalive_requests 1000000;
{temporary}
    upstream lanes {{ {servers} keepalive 2000; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        client_max_body_size 32m;
        client_body_buffer_size 4m;
        location / {{
            proxy_pass http://lanes;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_connect_timeout 1s;
            proxy_read_timeout 300s;
            proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;
        }}
    }}
}}
"""


def system(lanes: Sequence[Lane] = (VM,)) -> System:
    """In front of `lanes`, the first first."""
    program = find("nginx")

    @contextlib.contextmanager
    def start(place: Place) -> Generator[Running]:
        file = place.folder / "nginx.conf"
        file.write_text(_config(place.folder, place.port, lanes))
        command = [program, "-e", "stderr", "-p", str(place.folder), "-c", str(file)]
        with started("nginx", command, place.core, place.folder) as process:
            yield Running(f"127.0.0.1:{place.port}", [process])

    return System("nginx", start, "" if program else "Debian's package nginx is not installed", tuple(lanes))
