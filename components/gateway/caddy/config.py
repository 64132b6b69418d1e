"""The gateway's Caddy configuration: everything that happens to a request, as data.

Owns: Caddy's whole JSON and the environment Caddy needs for it; in this file paths, keys and guards. Does not own: the
way to a lane (`lanes`, `checks`, `hop`), what is asked of the pilot (`steering`), the form of the gateway's own answers
(`answers`), the container with its secrets and mounts (`Gateway`), what answers on a lane.
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from components.gateway import tunnel
from components.gateway.caddy import answers, burst_hop, checks, pilot_routes
from components.gateway.caddy.answers import Json
from components.gateway.caddy.pilot_routes import READY_PATH
from components.gateway.caddy.upstreams import (
    MIB,
    Upstream,
    Walk,
    longer_than,
    service_walks,
    services,
    upstreams,
    walks,
)
from components.settings import Lane, Settings
from components.settings.declared_services import Service, declared
from components.settings.section import SettingsError, problem

SECRET_LIMIT: Final = 64 * 1024
"""Most bytes Secret Manager keeps in a secret."""
WIDEST_ADDRESS: Final = "255.255.255.255"
ADMIN: Final = "unix/admin.sock|0600"
"""Caddy's own control, for the pilot: a socket in the working directory, which is the volume they share."""
SHUTDOWN_DELAY: Final = "6s"
"""Time at shutdown in which all goes on as before. In the grace period that follows, the checks have no listener any
more and find every lane dead: what was at home could not be repeated elsewhere, and nobody in line would get a lane.
Outlasts the tunnel, which leaves in 5 s at most."""
GRACE: Final = "2s"
"""Time that running requests get after that: Cloud Run kills after 10 s."""

BEARER: Final = "^[Bb]earer [A-Za-z0-9_-]{16,128}$"
REQUEST_ID: Final = "^[A-Za-z0-9._-]{1,128}$"
COMPLETIONS: Final = ("/v1/chat/completions", "/v1/completions")
MODELS: Final = "/v1/models"


def key_variable(client: str) -> str:
    """Environment variable that holds a client's key. Names have no `_`, so two clients never share a variable."""
    return "CLIENT_KEY_" + client.upper().replace("-", "_")


def environment(settings: Settings, *, vm_address: str) -> dict[str, str]:
    """Caddy's environment without the keys: Go's transport picks the proxy per host from it.

    Home goes through the tailnet, the VM straight out; loopback is never proxied.
    """
    found: dict[str, str] = {}
    if Lane.HOME in settings.lanes:
        found["HTTP_PROXY"] = f"socks5://{tunnel.SOCKS5}"
    if Lane.VM in settings.lanes:
        found["NO_PROXY"] = vm_address
    return found


def document(settings: Settings, *, vm_address: str, burst_url: str = "") -> str:
    """The configuration as the text that is stored and mounted: on one line, a third of its size indented."""
    return json.dumps(render(settings, vm_address=vm_address, burst_url=burst_url))


def require_fits(settings: Settings) -> None:
    """Raise `SettingsError` if the configuration would not fit a secret."""
    size = len(document(settings, vm_address=WIDEST_ADDRESS, burst_url=burst_hop.WIDEST_URL).encode())
    if size > SECRET_LIMIT:
        raise SettingsError(
            [
                problem(
                    "clients",
                    f"the gateway's configuration holds at most {SECRET_LIMIT} bytes, with {len(settings.clients)} "
                    + f"clients and {len(settings.services)} services it has {size}",
                    "Secret Manager would refuse it and the gateway could not start",
                    "declare fewer clients or services, or let several callers share a client",
                )
            ]
        )


def render(settings: Settings, *, vm_address: str, burst_url: str = "") -> Json:
    """Caddy's complete JSON. It holds no secret: keys come from the environment, the ID token from a file.

    `burst_url` is needed if burst is one of the lanes. Names of files are relative to the working directory.
    """
    lanes = upstreams(settings, vm_address=vm_address)
    servers: Json = {
        "api": _api(settings, lanes),
        "checks": checks.server([*lanes, *(home for _, home in services(settings))]),
    }
    http: Json = {"shutdown_delay": SHUTDOWN_DELAY, "grace_period": GRACE, "servers": servers}
    admin: Json = {"disabled": True}
    if Lane.BURST in settings.lanes:
        servers["burst"] = burst_hop.server(burst_url, COMPLETIONS)
    if settings.piloted:
        http["metrics"] = {}
        admin = {"listen": ADMIN}
    return {
        "admin": {**admin, "config": {"persist": False}},
        "logging": answers.logging(admin=settings.piloted),
        "apps": {"http": http},
    }


def _api(settings: Settings, lanes: Sequence[Upstream]) -> Json:
    sizes = walks(settings, lanes)
    # The probe in a subroute, and the lanes' handlers in routes of the server itself: Caddy's gauge of running requests
    # goes by the first handler of such a route, and `reverse_proxy` must count callers who have or want a lane.
    ready = (
        pilot_routes.ready() if Lane.BURST in settings.lanes else [{"handler": "static_response", "status_code": 200}]
    )
    proxies = [{"match": [{"vars": {"size": [walk.name]}}], "handle": [walk.handler]} for walk in sizes]
    return {
        "listen": [":{env.PORT}"],
        # Cloud Run speaks HTTP/1 to a container unless told otherwise, and its probes always do.
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "logs": {},
        "max_header_bytes": 64 * 1024,
        # Headers only: nothing bounds a request as a whole but Cloud Run's timeout.
        "read_header_timeout": "10s",
        # Off (0 means Caddy's default, a minute): its wrapper hides the unread body from Go, which then waits for the
        # whole body before a refusal such as 413 goes out, and sends nothing at all if the minute passes.
        "read_idle_timeout": -1,
        "routes": [
            {"handle": [*_names(lanes), answers.headers({"X-Request-Id": "{request_id}", "X-Served-By": "gateway"})]},
            {"match": [{"path": [READY_PATH]}], "handle": [answers.subroute([{"handle": ready}])]},
            # Keys before paths: without one, nobody learns what exists under /v1.
            {"match": [{"path": ["/v1", "/v1/*"]}], "handle": [answers.subroute(_authenticated(settings, sizes))]},
            *proxies,
            {"handle": [answers.error(404, "not_found", "There is nothing here; the API is under /v1.")]},
        ],
        "errors": {"routes": answers.errors()},
    }


def _names(lanes: Sequence[Upstream]) -> list[Json]:
    """Placeholders `{lane}` and `{request_id}`, evaluated each time they are used, and what the access log gets."""
    return [
        {
            "handler": "map",
            "source": "{http.reverse_proxy.upstream.hostport}",
            "destinations": ["{lane}"],
            "mappings": [{"input": upstream.dial, "outputs": [upstream.lane.value]} for upstream in lanes],
            "defaults": ["gateway"],
        },
        {
            "handler": "map",
            "source": "{http.request.header.X-Request-Id}",
            "destinations": ["{request_id}"],
            "mappings": [{"input_regexp": REQUEST_ID, "outputs": ["${0}"]}],
            "defaults": ["{http.request.uuid}"],
        },
        {"handler": "log_append", "key": "request_id", "value": "{request_id}", "early": True},
        # Counts looks for a free lane, too: one per `TRY_INTERVAL` of waiting.
        {"handler": "log_append", "key": "retries", "value": "{http.reverse_proxy.retries}"},
        {"handler": "log_append", "key": "lane", "value": "{lane}"},
    ]


def _authenticated(settings: Settings, sizes: Sequence[Walk]) -> list[Json]:
    """Everything under /v1. The door stays shut unless a client's name was set.

    The pattern first: a key variable that is unset or empty can't match it.
    """
    clients = [
        {
            "match": [{"header": {"Authorization": [f"{scheme} {{env.{key_variable(client.name)}}}" for scheme in
                                                    ("Bearer", "bearer")]}}],
            "handle": [{"handler": "vars", "client": client.name}],
        }
        for client in settings.clients
    ]  # fmt: skip
    named: Json = {"vars": {"client": [client.name for client in settings.clients]}}
    inside: Json = {
        "match": [named],
        "handle": [
            {"handler": "log_append", "key": "client", "value": "{http.vars.client}", "early": True},
            answers.subroute(_paths(settings, sizes)),
        ],
    }
    message = "Missing or unknown API key: send it as `Authorization: Bearer <key>`."
    outside: Json = {"handle": [answers.error(401, "invalid_api_key", message)]}
    return [
        {"match": [{"header_regexp": {"Authorization": {"pattern": BEARER}}}], "handle": [answers.subroute(clients)]},
        *_one_of("door", [inside, outside]),
    ]


def _paths(settings: Settings, sizes: Sequence[Walk]) -> list[Json]:
    at_home = services(settings)
    models = [settings.model.name, *(service.model for service in declared(settings) if not service.completes)]
    entries: list[Json] = [{"id": model, "object": "model", "created": 0, "owned_by": "pilotlight"} for model in models]
    # A route for each path, the longest first.
    by_path = sorted(((path, *found) for found in at_home for path in found[0].paths), key=lambda one: -len(one[0]))
    routes: list[Json] = [
        *(_service(settings, path, service, home) for path, service, home in by_path),
        {"match": [{"path": list(COMPLETIONS)}], "handle": [answers.subroute(_completions(settings, sizes))]},
        # The list is static, so that reading it wakes nothing.
        *_model_route(MODELS, {"object": "list", "data": entries}),
        *(route for entry in entries for route in _model_route(f"{MODELS}/{entry['id']}", entry)),
        *(pilot_routes.status() if settings.piloted else ()),
        {
            "match": [{"path": [f"{MODELS}/*"]}],
            "handle": [answers.error(404, "model_not_found", f"This endpoint serves: {', '.join(models)}")],
        },
        {"handle": [answers.error(404, "not_found", "This endpoint has no such path.")]},
    ]
    return _one_of("path", routes)


def _service(settings: Settings, path: str, service: Service, home: Upstream) -> Json:
    """Route of one path of a service that is at home only; the path and what is below it, in plain characters."""
    # The pattern sees the path with dots and double slashes resolved: what is sent on is built from what it found.
    below = {"name": "below", "pattern": f"(?i)^{re.escape(path)}((?:/[A-Za-z0-9._~-]+)*)$"}
    canonical: Json = {"handler": "rewrite", "uri": f"{path}{{http.regexp.below.1}}?"}
    handlers = [{**walk.match, "handle": [walk.handler]} for walk in service_walks(settings, home)]
    return {
        "match": [{"path_regexp": below}],
        "handle": [
            {"handler": "log_append", "key": "service", "value": service.name, "early": True},
            answers.subroute([*_guards(settings), {"handle": [canonical]}, _served_by_lane(), *handlers]),
        ],
    }


def _model_route(path: str, answer: Json) -> list[Json]:
    return [
        {
            "match": [{"path": [path], "method": ["GET"]}],
            "handle": [{"handler": "static_response", "status_code": 200, **answers.json_body(answer)}],
        },
        {"match": [{"path": [path]}], "handle": [answers.wrong_method("GET")]},
    ]


def _completions(settings: Settings, sizes: Sequence[Walk]) -> list[Json]:
    """From a request for an answer to a lane."""
    return [
        *_guards(settings),
        # One spelling reaches a lane, whatever the caller's slashes, case and query were.
        *({"match": [{"path": [path]}], "handle": [{"handler": "rewrite", "uri": f"{path}?"}]} for path in COMPLETIONS),
        _served_by_lane(),
        *_one_of("size", [_to_walk(walk) for walk in sizes]),
    ]


def _guards(settings: Settings) -> list[Json]:
    """What is wrong with a request is said before a lane can be blamed."""
    limit_mib = settings.gateway.request_limit_mib
    return [
        {"match": [{"not": [{"method": ["POST"]}]}], "handle": [answers.wrong_method("POST")]},
        # A malformed chunk would look like a failure of every lane in turn. Go itself refuses malformed lengths.
        {
            "match": [{"header": {"Content-Length": None}}],
            "handle": [answers.error(411, "length_required", "Send the body with a Content-Length, not chunked.")],
        },
        {
            "match": [longer_than(limit_mib * MIB)],
            "handle": [answers.error(413, "request_too_large", f"The request body is larger than {limit_mib} MiB.")],
        },
    ]


def _served_by_lane() -> Json:
    names = {"X-Request-Id": "{request_id}", "X-Served-By": "{lane}"}
    return {"handle": [answers.headers(names, deferred=True, delete=["Server", "Via", "Set-Cookie"])]}


def _to_walk(walk: Walk) -> Json:
    """Route to the lanes' handler, a route of the server's own that is found by this mark."""
    return {**walk.match, "handle": [{"handler": "vars", "size": walk.name}]}


def _one_of(group: str, routes: Sequence[Json]) -> list[Json]:
    """Routes of which the first that matches is taken alone, though a request for an answer goes on after it."""
    return [{"group": group, **route} for route in routes]
