"""Stand-in for the Tailscale image's entrypoint in userspace mode: a SOCKS5 proxy, with the tailnet in a JSON file.

Owns: the declared TS_* environment, the key check, starting and ending. Does not own: the tailnet, which is the file
that LAB_TAILNET names (`tailnet`), nor the proxy into it (`tunnel`). There is no WireGuard here, and no ACLs, no DERP;
tests/tailnet tests the real entrypoint.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lab.programs import die_with_parent, log_to_stderr
from lab.programs.tailnet import Tailnet

KNOWN_ENV = frozenset(
    {
        "TS_USERSPACE",
        "TS_SOCKS5_SERVER",
        "TS_LOCAL_ADDR_PORT",
        "TS_ENABLE_HEALTH_CHECK",
        "TS_AUTHKEY",
        "TS_CLIENT_ID",
        "TS_AUDIENCE",
        "TS_HOSTNAME",
        "TS_EXTRA_ARGS",
        "TS_DEBUG_MTU",
        "TS_SOCKET",
        "TS_TAILSCALED_EXTRA_ARGS",
    }
)
"""What is understood here. Anything else stops the program: a setting that is silently ignored would prove nothing."""

log = log_to_stderr("containerboot")


def is_true(value: str | None) -> bool:
    """Parse a boolean as Go's strconv.ParseBool does, which the real entrypoint uses."""
    return value in {"1", "t", "T", "true", "TRUE", "True"}


def auth_key(value: str) -> str:
    """Return the key as the real entrypoint sees it: `file:` is read and trimmed, a plain value is taken as it is."""
    return Path(value.removeprefix("file:")).read_text().strip() if value.startswith("file:") else value


async def run(env: dict[str, str], tailnet: Tailnet) -> None:
    """Serve SOCKS5 and health until SIGTERM."""
    import asyncio

    from lab.programs import localapi, tunnel
    from lab.programs.event_loop import stop_event

    stop, proxy, shut_down = stop_event(), tunnel.Tunnel(tailnet), asyncio.Event()
    watcher = asyncio.create_task(proxy.watch())
    socks = tunnel.host_port(env["TS_SOCKS5_SERVER"])
    servers = [await asyncio.start_server(proxy.serve, *socks, limit=tunnel.CHUNK_BYTES)]
    if is_true(env.get("TS_ENABLE_HEALTH_CHECK")) and env.get("TS_LOCAL_ADDR_PORT"):
        servers.append(await asyncio.start_server(tunnel.healthz, *tunnel.host_port(env["TS_LOCAL_ADDR_PORT"])))
    log.info("joined as %s; SOCKS5 on %s", env.get("TS_HOSTNAME", "(unnamed)"), env["TS_SOCKS5_SERVER"])
    if env.get("TS_SOCKET"):
        servers.append(await localapi.serve(env["TS_SOCKET"], env.get("TS_TAILSCALED_EXTRA_ARGS", ""), shut_down))
    ends = [asyncio.create_task(event.wait()) for event in (stop, shut_down)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if shut_down.is_set():
        # The entrypoint ends with its daemon, at once and without a word to open connections.
        log.error("tailscaled was shut down through its local API")
        os._exit(1)
    watcher.cancel()
    for server in servers:
        server.close()


def refusal(env: dict[str, str], tailnet: Tailnet) -> tuple[int, str] | None:
    """Return exit code and message if this environment must not start, else None."""
    declared = {name for name in env if name.startswith("TS_")}
    if unknown := sorted(declared - KNOWN_ENV):
        return 2, f"environment not understood by the lab: {', '.join(unknown)}"
    if not is_true(env.get("TS_USERSPACE")):
        return 2, "TS_USERSPACE must be true: Cloud Run has no usable /dev/net/tun"
    if not env.get("TS_SOCKS5_SERVER"):
        return 2, "TS_SOCKS5_SERVER is missing: nothing could dial through the tunnel"
    if env.get("TS_CLIENT_ID"):
        if env.get("TS_AUTHKEY"):
            return 1, "TS_AUTHKEY cannot be used with TS_CLIENT_ID"
        from lab.programs import federation  # http.client takes a tenth of a second that a key does not need

        refused = federation.refusal(env, tailnet.trusted)
        return (1, refused) if refused else None
    try:
        key = auth_key(env.get("TS_AUTHKEY", ""))
    except OSError as error:
        return 1, f"invalid key: {error}"
    if not key or key != tailnet.auth_key:
        return 1, "backend error: invalid key: unable to validate API key"
    return None


def main() -> int:
    """Check the environment, then serve."""
    die_with_parent()
    env = dict(os.environ)
    if "LAB_TAILNET" not in env:
        log.error("LAB_TAILNET is missing: it names the lab's tailnet file")
        return 2
    tailnet = Tailnet(Path(env["LAB_TAILNET"]))
    if refused := refusal(env, tailnet):
        log.error("%s", refused[1])
        return refused[0]
    import asyncio  # not at the top: a wrong key ends the real entrypoint in 0.15 s, of which this import costs a third

    asyncio.run(run(env, tailnet))
    return 0


if __name__ == "__main__":
    sys.exit(main())
