"""A request's way through Caddy's routes: its names in the log, its key, its path, its guards, and its size.

Owns: which requests get to a lane, in which one spelling, and which are refused before. Does not own: the walk over the
lanes (`walk`, `classes`), the form of the gateway's own answers (`answers`), the servers around the routes (`config`).
"""

import re
from collections.abc import Sequence
from typing import Final

from components import paths, ports
from components.gateway.caddy import (
    again,
    answers,
    begun,
    classes,
    connections,
    lengths,
    line,
    next_lane,
    pause,
    pilot_routes,
    turns,
)
from components.gateway.caddy.answers import Json
from components.gateway.caddy.classes import Way
from components.gateway.caddy.upstreams import Upstream, service_upstreams
from components.gateway.caddy.walk import MIB, longer_than, service_walks
from components.settings import Settings
from components.settings.client_classes import by_client
from components.settings.client_keys import ClientKey, current, in_grace
from components.settings.declared_services import Service, answered, declared

BEARER: Final = "^[Bb]earer ([A-Za-z0-9_-]{16,128})$"
ENCODING: Final = "Content-Encoding"
UNPACKED: Final = "(?i)^(identity)?$"
REQUEST_ID: Final = "^[A-Za-z0-9._-]{1,128}$"
GUARDS: Final = "guards"
TOGETHER: Final = 12
"""Keys that are looked at together, before each of them has a route: Caddy makes the routes anew for each request."""
_OLD_KEY: Final[Json] = {"handler": "log_append", "key": "old_key", "value": "true", "early": True}
"""Who still calls with a key that is going to end stands in the log: `true`, and nothing of other requests."""


def again_at(settings: Settings) -> tuple[int, ...]:
    """Ports on loopback at which a request can be back."""
    return (ports.LENGTHS, *([ports.TURNS] if turns.limited(settings) else ()))


def canonical() -> Json:
    """Takes slashes off the path's end, and the query. Matchers resolve case, dots, doubled slashes and encoding."""
    return {"handler": "rewrite", "uri": "?", "path_regexp": [{"find": "(?i)(.)(?:/|%2f)+$", "replace": "$1"}]}


def names(settings: Settings, lanes: Sequence[Upstream]) -> list[Json]:
    """Placeholders `{lane}` and `{request_id}`, evaluated each time they are used, and what the access log gets."""
    marks = next_lane.marks(lanes)
    outputs = {upstream.dial: [upstream.lane.value, marks[upstream.dial]] for upstream in lanes}
    outputs |= {dial: [lane, ""] for dial, lane in again.lanes(*again_at(settings)).items()}
    by_address: Json = {
        "handler": "map",
        "source": "{http.reverse_proxy.upstream.hostport}",
        "destinations": ["{lane}", next_lane.MARK],
        "mappings": [{"input": dial, "outputs": found} for dial, found in outputs.items()],
        "defaults": ["gateway", ""],
    }
    if settings.piloted:
        by_address = line.named(by_address)
    by_address = pause.named(by_address)
    return [
        again.its_lane(),
        by_address,
        *connections.named(lanes),
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
    ]


def authenticated(settings: Settings, lanes: Sequence[Upstream], ways: Sequence[Way]) -> list[Json]:
    """Everything under /v1. The door stays shut unless a client's name was set.

    The pattern first: a key variable that is unset or empty can't match it.
    """
    its_class, keys = by_client(settings), [*current(settings), *in_grace(settings)]
    clients: list[Json] = [
        {
            "match": [_presented(key)],
            "handle": [
                {"handler": "vars", "client": key.client, "class": classes.name(settings, its_class[key.client])},
                *([_OLD_KEY] if key.until else ()),
            ],
        }
        for key in keys
    ]
    if len(keys) > TOGETHER:
        some = [slice(first, first + TOGETHER) for first in range(0, len(keys), TOGETHER)]
        clients = [
            {"match": [_one_of_these(keys[these])], "handle": [answers.subroute(clients[these])]} for these in some
        ]
    named: Json = {"vars": {"client": [client.name for client in settings.clients]}}
    inside: Json = {
        "match": [named],
        "handle": [
            {"handler": "log_append", "key": "client", "value": "{http.vars.client}", "early": True},
            answers.subroute([*classes.pinned(settings), *_turns(settings), *_paths(settings, lanes, ways)]),
        ],
    }
    message = "Missing or unknown API key: send it as `Authorization: Bearer <key>`."
    outside: Json = {"handle": [answers.error(401, "invalid_api_key", message, hang_up=True)]}
    return [
        {
            "match": [{"header_regexp": {"Authorization": {"name": "bearer", "pattern": BEARER}}}],
            "handle": [answers.subroute(clients)],
        },
        *_one_of("door", [inside, outside]),
    ]


def _presented(key: ClientKey) -> Json:
    """A request with this key, before its end: Caddy's clock ends it, whether or not anybody deploys then."""
    end: Json = {"expression": f'{{time.now}} < timestamp("{key.ends}")'} if key.until else {}
    return {**_one_of_these([key]), **end}


def _one_of_these(keys: Sequence[ClientKey]) -> Json:
    return {"vars": {"{http.regexp.bearer.1}": [f"{{env.{key.variable}}}" for key in keys]}}


def _paths(settings: Settings, lanes: Sequence[Upstream], ways: Sequence[Way]) -> list[Json]:
    at_home = service_upstreams(settings)
    name = settings.contract.model.name
    entries = [
        _model(name),
        # vLLM lists further names in the same way.
        *({**_model(alias), "root": name} for alias in settings.model.aliases),
        *(_model(service.model) for service in declared(settings) if not service.completes),
    ]
    models = ", ".join(entry["id"] for entry in entries)
    # A route for each path, the longest first.
    by_path = sorted(((path, *found) for found in at_home for path in found[0].paths), key=lambda one: -len(one[0]))
    at_home_only = [_service(settings, path, service, home) for path, service, home in by_path]
    below = [path + end for path, *_ in by_path for end in ("", "/*")]
    elsewhere: list[Json] = [
        # The list is static, so that reading it wakes nothing.
        *_model_route(paths.MODELS, {"object": "list", "data": entries}),
        *(route for entry in entries for route in _model_route(f"{paths.MODELS}/{entry['id']}", entry)),
        *(pilot_routes.status() if settings.piloted else ()),
        {
            "match": [{"path": [f"{paths.MODELS}/*"]}],
            "handle": [answers.error(404, "model_not_found", f"This endpoint serves: {models}")],
        },
        *_missing(settings, [path for path, *_ in by_path]),
    ]
    # Caddy puts the routes of a subroute together for each request that gets there: so what few ask for has its own.
    return [
        *classes.only_with_home(settings, [path for path, *_ in by_path]),
        *([{"match": [{"path": below}], "handle": [answers.subroute(at_home_only)]}] if below else ()),
        *_one_of(
            "path",
            [
                {
                    "match": [{"path": list(answered(settings))}],
                    "handle": [answers.subroute(_answers(settings, lanes, ways))],
                },
                {"handle": [answers.subroute(elsewhere)]},
            ],
        ),
    ]


def _missing(settings: Settings, at_home: Sequence[str]) -> list[Json]:
    """404 for every other path; who meant one of OpenAI's learns which one to use."""
    text = f"For text use POST {paths.CHAT}"
    read = [path for path in paths.READ if path != paths.LANES or settings.piloted]
    reasons = {
        paths.FOR_A_SERVICE: f"No service here answers this; the owner can add one under `services`. {text}.",
        paths.KEPT: f"This endpoint keeps nothing between requests. {text}, with the whole conversation each time.",
        (): f"This endpoint has no such path. It answers POST {', '.join([*answered(settings), *at_home])} and "
        + f"GET {', '.join(read)}.",
    }
    return [
        {
            **({"match": [{"path": [path + end for path in known for end in ("", "/*")]}]} if known else {}),
            "handle": [answers.error(404, "not_found", told)],
        }
        for known, told in reasons.items()
    ]


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
            answers.subroute([_guarded(settings), {"handle": [canonical, _served_by_lane()]}, *handlers]),
        ],
    }


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": "pilotlight"}


def _model_route(path: str, answer: Json) -> list[Json]:
    return [
        {
            "match": [{"path": [path], "method": list(answers.READ)}],
            "handle": [{"handler": "static_response", "status_code": 200, **answers.json_body(answer)}],
        },
        {"match": [{"path": [path]}], "handle": [answers.wrong_method(*answers.READ)]},
    ]


def _answers(settings: Settings, lanes: Sequence[Upstream], ways: Sequence[Way]) -> list[Json]:
    """From a request for an answer to a lane."""
    return [
        _guarded(settings),
        # One spelling reaches a lane, whatever the caller's slashes, case and query were.
        *(
            {"match": [{"path": [path]}], "handle": [{"handler": "rewrite", "uri": f"{path}?"}]}
            for path in answered(settings)
        ),
        {"handle": [_served_by_lane(), *classes.to_walks(ways)]},
        *(line.gate(next_lane.to_line(lanes)) if settings.piloted else ()),
    ]


def named(settings: Settings) -> Json:
    """Routes that stand once in the configuration, which must fit a secret, and are invoked by their names."""
    return {GUARDS: {"handle": [answers.subroute(_guards(settings))]}, begun.NAME: begun.route()}


def _guarded(settings: Settings) -> Json:
    """The guards look closer at every request that isn't plain: a body whose length is known, as it is, and allowed."""
    too_large = longer_than(settings.gateway.request_limit_mib * MIB)
    plain: Json = {"method": ["POST"], "header": {"Content-Length": ["*"], ENCODING: None}, "not": [too_large]}
    return {"match": [{"not": [plain]}], "handle": [{"handler": "invoke", "name": GUARDS}]}


def _guards(settings: Settings) -> list[Json]:
    """What is wrong with a request is said before a lane can be blamed."""
    limit_mib, replay_limit = settings.gateway.request_limit_mib, settings.gateway.replay_limit_mib * MIB
    too_large = answers.error(413, "request_too_large", f"The request body is larger than {limit_mib} MiB.")
    came_back = again_at(settings)
    packed = "Send the body as it is, without a Content-Encoding: this endpoint does not unpack it."
    return [
        {"match": [{"not": [{"method": ["POST"]}]}], "handle": [answers.wrong_method("POST")]},
        # All values of the header together: one may hide behind another.
        {
            "match": [{"not": [{"vars_regexp": {f"{{http.request.header.{ENCODING}}}": {"pattern": UNPACKED}}}]}],
            "handle": [answers.error(415, "unsupported_encoding", packed, accept_encoding="identity")],
        },
        # No body at all. Go itself refuses malformed lengths.
        {
            "match": [
                {
                    "header": {"Content-Length": None, "Transfer-Encoding": None},
                    "not": [again.back(*came_back)],
                }
            ],
            "handle": [answers.error(411, "length_required", "Send a body, with a Content-Length or in chunks.")],
        },
        lengths.route(came_back, settings.lanes, limit_mib * MIB, replay_limit, too_large, [_served_by_lane()]),
        {"match": [longer_than(limit_mib * MIB)], "handle": [too_large]},
    ]


def _served_by_lane() -> Json:
    names = {"X-Request-Id": "{request_id}", "X-Served-By": "{lane}"}
    return answers.headers(names, deferred=True, delete=["Server", "Via", "Set-Cookie"])


def _turns(settings: Settings) -> list[Json]:
    longer = longer_than(settings.gateway.request_limit_mib * MIB)
    return turns.routes(settings, longer, [_served_by_lane()])


def _one_of(group: str, routes: Sequence[Json]) -> list[Json]:
    """Routes of which the first that matches is taken alone, though a request for an answer goes on after it."""
    return [{"group": group, **route} for route in routes]
