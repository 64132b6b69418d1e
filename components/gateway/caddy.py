"""The gateway's Caddy configuration: everything that happens to a request, as data.

Owns: Caddy's whole JSON (paths, keys, guards, lanes, retries, checks, error bodies, logs) and the environment Caddy
needs for it. Does not own: the container, its secrets and mounts (`Gateway`), the SOCKS listener (`tailscale`), what
answers on a lane.

Two handlers proxy: one for bodies that can be replayed, one for larger ones. They share each lane's capacity and
failures, because Caddy keeps both per dial address.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from components.gateway import tailscale
from components.rules import SettingsError, problem
from components.settings import Lane, Settings

CHECKS: Final = "127.0.0.1:9180"
"""Caddy's own listener that asks the lanes whether they answer."""
VM_PORT: Final = 9931
"""llama.cpp's port on the VM."""
READY_PATH: Final = "/ready"
"""Startup probe. Not `/healthz`: Cloud Run reserves some paths that end in z."""
SECRET_LIMIT: Final = 64 * 1024
"""Most bytes Secret Manager keeps in a secret."""
WIDEST_ADDRESS: Final = "255.255.255.255"
MIB: Final = 1024 * 1024

TRY_INTERVAL: Final = "10ms"
"""Pause before the next lane is tried or looked at again: what a fail-over costs."""
FAIL_DURATION: Final = "2s"
"""How long a failed lane is left alone. Must outlast the checks' own detection (interval + timeout), else `first` picks
the dead lane again before they have found it. Much longer, and one hiccup costs the lane's capacity."""
CHECK_INTERVAL: Final = "500ms"
CHECK_TIMEOUT: Final = "1s"
REFUSED: Final = (502, 503, 504)
"""Answers of a lane that mean `not here, not now`."""
LAST_REFUSAL_MS: Final = 10_000
"""Age of a request from which the last lane's refusal is final, ms. A lane that is full or away is waited for
(`wait_s`); one that passes its checks and still says no isn't."""
RETRY_AFTER_S: Final = 5
IDLE_CONNECTION: Final = "4s"
"""Below the 5 s after which llama.cpp and vLLM close an idle connection: a large body sent into a closing connection is
lost, for it can't be replayed."""
GRACE: Final = "8s"
"""Time that running requests get at shutdown: Cloud Run kills after 10 s."""

BEARER: Final = "^[Bb]earer [A-Za-z0-9_-]{16,128}$"
REQUEST_ID: Final = "^[A-Za-z0-9._-]{1,128}$"
COMPLETIONS: Final = ("/v1/chat/completions", "/v1/completions")
MODELS: Final = "/v1/models"

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Upstream:
    """A lane as Caddy sees it: where requests go, how many at a time, and what proves that it answers."""

    lane: Lane
    dial: str
    max_requests: int
    check_path: str


def upstreams(settings: Settings, *, vm_address: str) -> list[Upstream]:
    """The lanes in the order a request tries them."""
    known = {
        # The model list goes end to end: tunnel, Traefik, vLLM. Home's Ingress lets nothing but /v1 through.
        Lane.HOME: Upstream(Lane.HOME, f"{settings.home.hostname}:80", settings.home.max_requests, MODELS),
        Lane.VM: Upstream(Lane.VM, f"{vm_address}:{VM_PORT}", settings.vm.max_requests, "/health"),
    }
    return [known[lane] for lane in settings.lanes]


def key_variable(client: str) -> str:
    """Environment variable that holds a client's key. Names have no `_`, so two clients never share a variable."""
    return "CLIENT_KEY_" + client.upper().replace("-", "_")


def environment(settings: Settings, *, vm_address: str) -> dict[str, str]:
    """Caddy's environment without the keys: Go's transport picks the proxy per host from it.

    Home goes through the tailnet, the VM straight out; loopback is never proxied.
    """
    found: dict[str, str] = {}
    if Lane.HOME in settings.lanes:
        found["HTTP_PROXY"] = f"socks5://{tailscale.SOCKS5}"
    if Lane.VM in settings.lanes:
        found["NO_PROXY"] = vm_address
    return found


def document(settings: Settings, *, vm_address: str) -> str:
    """The configuration as the text that is stored and mounted."""
    return json.dumps(render(settings, vm_address=vm_address), indent=1)


def require_fits(settings: Settings) -> None:
    """Raise `SettingsError` if the configuration would not fit a secret."""
    size = len(document(settings, vm_address=WIDEST_ADDRESS).encode())
    if size > SECRET_LIMIT:
        raise SettingsError(
            [
                problem(
                    "clients",
                    f"the gateway's configuration holds at most {SECRET_LIMIT} bytes, with {len(settings.clients)} "
                    + f"clients it has {size}",
                    "Secret Manager would refuse it and the gateway could not start",
                    "declare fewer clients, or let several callers share one",
                )
            ]
        )


def render(settings: Settings, *, vm_address: str) -> Json:
    """Caddy's complete JSON. It holds no secret: keys come from the environment."""
    lanes = upstreams(settings, vm_address=vm_address)
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": _logging(),
        "apps": {"http": {"grace_period": GRACE, "servers": {"api": _api(settings, lanes), "checks": _checks(lanes)}}},
    }


def _api(settings: Settings, lanes: Sequence[Upstream]) -> Json:
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
            {"handle": [*_names(lanes), _headers({"X-Request-Id": "{request_id}", "X-Served-By": "gateway"})]},
            {"match": [{"path": [READY_PATH]}], "handle": [{"handler": "static_response", "status_code": 200}]},
            # Keys before paths: without one, nobody learns what exists under /v1.
            {"match": [{"path": ["/v1", "/v1/*"]}], "handle": [_subroute(_authenticated(settings, lanes))]},
            {"handle": [_error(404, "not_found", "There is nothing here; the API is under /v1.")]},
        ],
        "errors": {"routes": _errors()},
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


def _authenticated(settings: Settings, lanes: Sequence[Upstream]) -> list[Json]:
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
    return [
        {"match": [{"header_regexp": {"Authorization": {"pattern": BEARER}}}], "handle": [_subroute(clients)]},
        {
            "match": [named],
            "handle": [
                {"handler": "log_append", "key": "client", "value": "{http.vars.client}", "early": True},
                _subroute(_paths(settings, lanes)),
            ],
        },
        {
            "handle": [
                _error(401, "invalid_api_key", "Missing or unknown API key: send it as `Authorization: Bearer <key>`.")
            ]
        },
    ]


def _paths(settings: Settings, lanes: Sequence[Upstream]) -> list[Json]:
    model = settings.model.name
    entry: Json = {"id": model, "object": "model", "created": 0, "owned_by": "pilotlight"}
    return [
        {"match": [{"path": list(COMPLETIONS)}], "handle": [_subroute(_completions(settings, lanes))]},
        # The list is static, so that reading it wakes nothing.
        *_model_route(MODELS, {"object": "list", "data": [entry]}),
        *_model_route(f"{MODELS}/{model}", entry),
        {
            "match": [{"path": [f"{MODELS}/*"]}],
            "handle": [_error(404, "model_not_found", f"This endpoint serves one model: {model}")],
        },
        {"handle": [_error(404, "not_found", "This endpoint has no such path.")]},
    ]


def _model_route(path: str, answer: Json) -> list[Json]:
    return [
        {
            "match": [{"path": [path], "method": ["GET"]}],
            "handle": [{"handler": "static_response", "status_code": 200, **_json_body(answer)}],
        },
        {"match": [{"path": [path]}], "handle": [_wrong_method("GET")]},
    ]


def _completions(settings: Settings, lanes: Sequence[Upstream]) -> list[Json]:
    """From a request for an answer to a lane. What is wrong with the request is said before a lane can be blamed."""
    gateway = settings.gateway
    return [
        {"match": [{"not": [{"method": ["POST"]}]}], "handle": [_wrong_method("POST")]},
        # A malformed chunk would look like a failure of every lane in turn. Go itself refuses malformed lengths.
        {
            "match": [{"header": {"Content-Length": None}}],
            "handle": [_error(411, "length_required", "Send the body with a Content-Length, not chunked.")],
        },
        {
            "match": [_longer_than(gateway.request_limit_mib)],
            "handle": [
                _error(413, "request_too_large", f"The request body is larger than {gateway.request_limit_mib} MiB.")
            ],
        },
        # One spelling reaches a lane, whatever the caller's slashes, case and query were.
        *({"match": [{"path": [path]}], "handle": [{"handler": "rewrite", "uri": f"{path}?"}]} for path in COMPLETIONS),
        {
            "handle": [
                _headers(
                    {"X-Request-Id": "{request_id}", "X-Served-By": "{lane}"},
                    deferred=True,
                    delete=["Server", "Via", "Set-Cookie"],
                )
            ]
        },
        {"match": [_longer_than(gateway.replay_limit_mib)], "handle": [_proxy(settings, lanes, replay=False)]},
        {"handle": [_proxy(settings, lanes, replay=True)]},
    ]


def _longer_than(limit_mib: int) -> Json:
    return {"expression": f"int({{http.request.header.Content-Length}}) > {limit_mib * MIB}"}


def _proxy(settings: Settings, lanes: Sequence[Upstream], *, replay: bool) -> Json:
    """The walk over the lanes.

    `replay`: the body is in memory, so any failure before the answer's headers is repeated on the next lane, and counts
    against the one that failed. Otherwise the body streams through once: nothing but a refused dial is repeated, and
    failures don't count, because a caller who hangs up half-way looks like a lane that did. Checks find a dead lane.
    """
    balancing: Json = {
        "selection_policy": {"policy": "first"},
        "try_duration": f"{settings.gateway.wait_s}s",
        "try_interval": TRY_INTERVAL,
    }
    passive: Json = {"max_fails": 1}
    handler: Json = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": upstream.dial, "max_requests": upstream.max_requests} for upstream in lanes],
        "load_balancing": balancing,
        "health_checks": {
            "passive": passive,
            "active": {
                "upstream": CHECKS,
                "uri": "/",
                "headers": {"X-Lane": ["{http.reverse_proxy.active.target_upstream}"]},
                "interval": CHECK_INTERVAL,
                "timeout": CHECK_TIMEOUT,
            },
        },
        "transport": {
            "protocol": "http",
            "dial_timeout": "1s",
            "compression": False,
            "keep_alive": {"max_idle_conns_per_host": 256, "idle_timeout": IDLE_CONNECTION},
        },
        "flush_interval": -1,
        "headers": {"request": _only_needed(("Content-Type", "Accept", "User-Agent"))},
        # Refused by the last lane, or too large to replay: the caller gets the gateway's own 503.
        "handle_response": [
            {
                "match": {"status_code": list(REFUSED)},
                "routes": [{"handle": [{"handler": "error", "status_code": 503}]}],
            }
        ],
    }
    if replay:
        # One byte more than the largest body that comes here: Caddy takes a full buffer for an incomplete body.
        handler["request_buffers"] = settings.gateway.replay_limit_mib * MIB + 1
        passive |= {"fail_duration": FAIL_DURATION, "unhealthy_status": list(REFUSED)}
        balancing["retry_match"] = [{"expression": _worth_another_try(lanes)}]
    return handler


def _worth_another_try(lanes: Sequence[Upstream]) -> str:
    """CEL. In JSON the short placeholder names `{rp.…}` never match."""
    refused = f"{{http.reverse_proxy.status_code}} in [{', '.join(map(str, REFUSED))}]"
    another = f"{{http.reverse_proxy.upstream.hostport}} != {json.dumps(lanes[-1].dial)}"
    young = f"{{http.request.duration_ms}} < {LAST_REFUSAL_MS}.0"
    return f"{{http.reverse_proxy.is_transport_error}} == true || ({refused} && ({another} || {young}))"


def _only_needed(names: Sequence[str]) -> Json:
    """Header operations of a request to a lane: nothing of the caller's goes there but these.

    So no key, cookie, forwarded address or Host of the caller's choice can reach a lane or steer Traefik.
    """
    return {
        "delete": ["*"],
        "set": {
            "Host": ["{http.reverse_proxy.upstream.hostport}"],
            "X-Request-Id": ["{request_id}"],
            **{name: [f"{{http.request.header.{name}}}"] for name in names},
        },
    }


def _checks(lanes: Sequence[Upstream]) -> Json:
    """The listener behind the active checks, which can't dial through a proxy themselves."""
    return {
        "listen": [CHECKS],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "logs": {"default_logger_name": "checks"},
        "routes": [
            *(
                {"match": [{"header": {"X-Lane": [upstream.dial]}}], "handle": [_check(upstream)]}
                for upstream in lanes
            ),
            {"handle": [{"handler": "static_response", "status_code": 404}]},
        ],
    }  # fmt: skip


def _check(upstream: Upstream) -> Json:
    return {
        "handler": "reverse_proxy",
        # `tcp/` is the same address under another name: under the same one, a check would take one of the lane's slots.
        "upstreams": [{"dial": f"tcp/{upstream.dial}"}],
        "rewrite": {"method": "GET", "uri": upstream.check_path},
        "headers": {
            "request": {"delete": ["*"], "set": {"Host": ["{http.reverse_proxy.upstream.hostport}"]}},
        },
        "transport": {
            "protocol": "http",
            "dial_timeout": CHECK_TIMEOUT,
            "response_header_timeout": CHECK_TIMEOUT,
            "compression": False,
            "keep_alive": {"idle_timeout": IDLE_CONNECTION},
        },
    }


def _errors() -> list[Json]:
    """Errors that Caddy raises: a lane's fault is a 503, for the stock SDK retries that after `Retry-After`."""
    reason: Json = {"handler": "log_append", "key": "error", "value": "{http.error.message}"}
    return [
        {
            "match": [{"expression": "{http.error.status_code} >= 400 && {http.error.status_code} < 500"}],
            "handle": [reason, _error(400, "bad_request", "The request could not be read.")],
        },
        {
            "handle": [
                reason,
                _error(503, "no_lane", "No model server could answer in time. Try again.", retry_after=RETRY_AFTER_S),
            ]
        },
    ]


def _wrong_method(allowed: str) -> Json:
    return _error(405, "method_not_allowed", f"Use {allowed} here.", allow=allowed)


def _error(status: int, code: str, message: str, **headers: str | int) -> Json:
    """An answer that the stock `openai` SDK turns into its own exception."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = _json_body({"error": {"message": message, "type": kind, "param": None, "code": code}})
    body["headers"] |= {name.replace("_", "-").title(): [str(value)] for name, value in headers.items()}
    return {"handler": "static_response", "status_code": status, **body}


def _json_body(content: Json) -> Json:
    return {"headers": {"Content-Type": ["application/json"]}, "body": json.dumps(content)}


def _headers(values: dict[str, str], *, deferred: bool = False, delete: Sequence[str] = ("Server",)) -> Json:
    """Response headers; `deferred` waits for the lane's own and wins over them."""
    changes: Json = {"set": {name: [value] for name, value in values.items()}, "delete": list(delete)}
    return {"handler": "headers", "response": {**changes, "deferred": deferred}}


def _subroute(routes: Sequence[Json]) -> Json:
    return {"handler": "subroute", "routes": list(routes)}


def _logging() -> Json:
    """JSON lines on stderr, without headers and query strings: they may hold what a caller should not have sent."""
    encoder: Json = {
        "format": "filter",
        "wrap": {
            "format": "json",
            "time_format": "rfc3339_nano",
            # The names Cloud Logging looks for.
            "time_key": "time",
            "level_key": "severity",
            "message_key": "message",
        },
        "fields": {
            "request>headers": {"filter": "delete"},
            "resp_headers": {"filter": "delete"},
            "request>uri": {"filter": "regexp", "regexp": "[?#].*", "value": ""},
        },
    }
    lane_checks = "http.handlers.reverse_proxy.health_checker"
    base: Json = {"writer": {"output": "stderr"}, "encoder": encoder}
    return {
        "logs": {
            "default": {**base, "exclude": ["http.log.access.checks", "http.log.error.checks", lane_checks]},
            # A lane that is down says so twice a second; one such line a minute is enough.
            "lanes": {
                **base,
                "include": [lane_checks],
                "sampling": {"interval": 60_000_000_000, "first": 2, "thereafter": 1_000_000},
            },
        }
    }
