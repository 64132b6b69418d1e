"""Paths of every spelling: whatever leads to a lane must be a declared one, in one spelling.

Owns: the tricks with a request's target. Does not own: single spellings (`tests.gateway.test_paths`).
"""

import itertools
from collections.abc import Iterator
from typing import Final

from tests.attack.handmade import CHAT, head, post
from tests.attack.wire import Attack
from tests.gateway.test_paths import ENGINES_OWN, OTHER, SAME

ENGINES: Final = (
    *ENGINES_OWN, "/metrics", "/health", "/load", "/ping", "/version", "/server_info", "/is_sleeping", "/wake_up",
    "/start_profile", "/stop_profile", "/scale_elastic_ep", "/is_scaling_elastic_ep", "/get_tokenizer_info",
    "/detokenize", "/pooling", "/classify", "/score", "/rerank", "/v2/rerank", "/invocations", "/docs", "/redoc",
    "/openapi.json", "/v1/audio/transcriptions/../../load", "/v1/unload_lora_adapter", "/reset_mm_cache",
    "/reset_encoder_cache", "/resume", "/is_paused", "/init_weight_transfer_engine", "/update_weights",
    "/completions", "/models", "/chat/completions", "/slots/0?action=erase", "/models/load", "/v1/score",
    "/config/", "/debug/pprof/", "/reverse_proxy/upstreams", "/dashboard/", "/api/rawdata", "/computeMetadata/v1/",
)  # fmt: skip
"""Engine, Caddy, Traefik and metadata server: what each of them would answer, and no caller may ask."""


def strange() -> Iterator[Attack]:
    """Tricks on the paths that a lane has, and on those that it has and nobody may ask for."""
    kind = "paths"
    for path in (CHAT, "/v1/completions", "/v1/audio/speech"):
        for spelling in (*SAME, *OTHER):
            yield Attack(kind, spelling(path), (post(path=spelling(path)),))
    ups = (
        "..",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "..;",
        "..%00",
        "%252e%252e",
        "..%2f",
        "..\\",
        "%c0%ae%c0%ae",
        "\uff0e\uff0e",
    )
    slashes = ("/", "//", "%2f", "%2F", "%252f", "\\", "%5c", "/./", "%c0%af")
    for up, slash in itertools.product(ups, slashes):
        for before in ("/v1", CHAT, "/v1/audio"):
            for wanted in ("/metrics", "/v1/load_lora_adapter"):
                path = f"{before}{slash}{up}{slash}{up}{slash}{up}{wanted}".encode().decode("latin-1")
                yield Attack(kind, path, (post(path=path),))
    for path in ENGINES:
        for method in ("GET", "POST"):
            sent = post(path=path, method=method)
            # Below a service's own path all is the service's.
            found = frozenset({404, 405, 401, 200, 415, 411}) if path.startswith("/v1/audio") else frozenset({404, 405})
            answers = frozenset({200}) if path.startswith("/v1/models?") else found
            yield Attack(kind, f"{method} {path}", (sent,), wanted=answers)


def targets() -> Iterator[Attack]:
    """Targets that are no paths, or none that end."""
    kind = "targets"
    for target in (
        "", "*", "?", "#", "v1/models", f"http://evil{CHAT}", f"HTTP://127.0.0.1:9931{CHAT}", f"//evil{CHAT}",
        f"http://u:p@evil{CHAT}", "file:///etc/passwd", "http://home:80/metrics",
        f"{CHAT}\0", f"{CHAT}%0d%0aX-Lane:%20vm", f"{CHAT}\x7f", f"{CHAT}%", f"{CHAT}%zz", f"{CHAT}\t", f"{CHAT}\r",
        f"{CHAT}?x HTTP/1.1\r\nX-Lane: vm\r\nY:", "http://[::1", "http://a b/", "/%", "/" + "%25" * 500,
        "javascript:x", "http:///", "http://" + "a" * 5000 + CHAT, "\u2215v1",
    ):  # fmt: skip
        lanes = frozenset({"home", "vm"}) if "\nX-Lane" in target else frozenset({"home"})
        path = target.encode().decode("latin-1")
        for method in ("GET", "POST"):
            yield Attack(kind, f"{method} {target[:60]!r}", (post(path=path, method=method),), lanes=lanes)
    for size in (8_000, 60_000, 70_000, 1024 * 1024):
        for text in ("a", "%61", "/", "../", "%2f", "?", "a/"):
            long = text * (size // len(text))
            yield Attack(kind, f"{size} bytes of {text}", (head(path=f"/v1/{long}", method="GET"),), requests=0)
            yield Attack(kind, f"{size} bytes of {text} behind", (post(path=f"{CHAT}?{long}"),))
            yield Attack(kind, f"{size} bytes of {text} posted", (post(path=f"/v1/audio/{long}"),))


ALL: Final = (strange, targets)
