"""Every setting's refusals: the message names field, rule, consequence and fix, and what is harmless passes."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from components.settings import Settings, rules
from components.settings.section import SettingsError

Make = Callable[..., Settings]
DIGEST = "@sha256:" + "0" * 64


# Text of the message from the field on, up to the fix; what lies between two parts is left out.
REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    # clients
    ({"clients": []}, ("clients: at least one client", "nobody could call", "add `- name: demo`")),
    (
        {"clients": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
        ("clients: a name stands once, a stands more often", "could not be told apart", "rename one"),
    ),
    (
        {"clients": [{"name": "a", "key": "x" * 20}, {"name": "b", "key": "x" * 20}]},
        ("clients: every client has a key of its own", "logged as the first", "leave `key` out"),
    ),
    (
        {"clients": [{"name": "a", "key": " \t\n"}]},
        ("clients.0.key: a key of blanks", "Consequence", "leave `key` out"),
    ),
    ({"clients": [{"name": "a", "key": ""}]}, ("clients.0.key: a key of blanks",)),
    (
        {"clients": [{"name": "a"}, {"name": "b", "key": "short"}]},
        ("clients.1.key: a key has 16 to 128 characters", "guessed", "leave `key` out"),
    ),
    ({"clients": [{"name": "a", "key": "x" * 129}]}, ("clients.0.key: a key has 16 to 128",)),
    ({"clients": [{"name": "a", "key": "sixteen chars ok but blank"}]}, ("clients.0.key: a key has 16 to 128",)),
    ({"clients": [{"name": "a", "key": "first-line-0123456789\nsecond"}]}, ("clients.0.key: a key has 16 to 128",)),
    ({"clients": [{"name": "a", "key": 1234567890123456}]}, ("clients.0.key: is refused",)),
    ({"clients": [{"name": "Robot One"}]}, ("clients.0.name: is refused", "lower case")),
    ({"clients": [{"name": "a\n"}]}, ("clients.0.name: is refused",)),
    ({"clients": [{"key": "x" * 20}]}, ("clients.0.name: is required", "The client's name")),
    ({"clients": "demo"}, ("clients: must be a list", "`name`")),
    ({"clients": ["demo"]}, ("clients.0: must hold named settings",)),
    # lanes
    ({"lanes": []}, ("lanes: at least one lane", "503", "set `[home, vm]`")),
    ({"lanes": ["vm", "vm"]}, ("lanes: a lane stands once", "counted twice", "remove the repeat")),
    ({"lanes": ["vm", "hoem"]}, ("lanes.1: is refused", "'home', 'burst' or 'vm'")),
    ({"lanes": "vm"}, ("lanes: must be a list",)),
    ({"lanes": None}, ("lanes: must be a list",)),
    # gateway
    (
        {"gateway": {"memory_mib": 927}},
        (
            "gateway.memory_mib: at least concurrency x replay_limit_mib x 2.5 + 128 = 928 MiB, is 927",
            "exhaust the instance",
            "set memory_mib to 928, or lower concurrency or replay_limit_mib",
        ),
    ),
    ({"gateway": {"memory_mib": 4096, "concurrency": 1000}}, ("is 4096", "Fix: lower concurrency or replay_limit_mib")),
    ({"gateway": {"memory_mib": 4097}}, ("gateway.memory_mib: is refused", "4096")),
    ({"gateway": {"memory_mib": 511, "concurrency": 1}}, ("gateway.memory_mib: is refused", "512")),
    (
        {"gateway": {"replay_limit_mib": 5, "request_limit_mib": 4, "memory_mib": 2048}},
        ("gateway.replay_limit_mib: at most request_limit_mib", "refused anyway", "lower it"),
    ),
    ({"gateway": {"wait_s": 300}}, ("gateway.wait_s: below timeout_s (300)", "503", "lower wait_s or raise timeout_s")),
    ({"gateway": {"wait_s": 0}}, ("gateway.wait_s: is refused",)),
    *(
        (
            {"gateway": {"cors_origins": [origin]}},
            (
                "gateway.cors_origins.0: an origin as browsers send it",
                "no page would ever match",
                "write it as https://app.example.com",
            ),
        )
        for origin in (
            "",
            " ",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/chat",
            "https://App.example.com",
            "https://user@app.example.com",
            "https://*.example.com",
            "https://a b.example",
            "https://app.example.com:",
            "https://app.example.com:0",
            "https://app.example.com:123456",
            "ftp://a.example",
            "https://{env.CLIENT_KEY_DEMO}",
            "https://app.example.com?x",
            "https://app.example.com, https://b.example",
            "https://bücher.example",
            "https://app.example.com\n",
            "**",
        )
    ),
    (
        {"gateway": {"cors_origins": ["https://app.example.com:443"]}},
        (
            "gateway.cors_origins.0: without the port that https has by itself",
            "browsers leave that port out",
            "write it as https://app.example.com",
        ),
    ),
    (
        {"gateway": {"cors_origins": ["https://a.example", "http://robot.lan:3000"]}},
        (
            "gateway.cors_origins.1: https, or http on localhost",
            "take the key that it holds",
            "serve the page over https, and write https://robot.lan:3000",
        ),
    ),
    ({"gateway": {"cors_origins": ["http://localhost.evil.example"]}}, ("gateway.cors_origins.0: https, or http on",)),
    (
        {"gateway": {"cors_origins": ["*", "https://app.example.com"]}},
        ("gateway.cors_origins: `*` alone, or origins without it", "the others mean nothing", "leave `*` out"),
    ),
    ({"gateway": {"cors_origins": "https://app.example.com"}}, ("gateway.cors_origins: must be a list",)),
    ({"gateway": {"cors_origins": ["https://a.example"] * 33}}, ("gateway.cors_origins: is refused", "32")),
    (
        {"gateway": {"short_kib": 64}},
        ("gateway.short_kib: below text_kib (64), is 64", "sent where only short ones", "lower short_kib"),
    ),
    ({"gateway": {"short_kib": 2, "text_kib": 2}}, ("gateway.short_kib: below text_kib (2)", "raise text_kib")),
    (
        {"gateway": {"text_kib": 4097}},
        (
            "gateway.text_kib: at most replay_limit_mib (4 MiB), is 4097 KiB",
            "too large to be repeated",
            "lower text_kib",
        ),
    ),
    ({"gateway": {"short_kib": 0}}, ("gateway.short_kib: is refused",)),
    ({"gateway": {"text_kib": 1}}, ("gateway.text_kib: is refused",)),
    ({"vm": {"large_request_mib": 1}}, ("vm.large_request_mib: is no setting",)),
    ({"gateway": {"wait_s": "long"}}, ("gateway.wait_s: is refused", "valid integer")),
    ({"gateway": {"timeout_s": 3601}}, ("gateway.timeout_s: is refused", "3600")),
    (
        {"gateway": {"min_instances": 2}},
        ("gateway.min_instances: at most max_instances (1)", "Cloud Run refuses", "raise max_instances"),
    ),
    ({"gateway": {"min_instances": -1}}, ("gateway.min_instances: is refused",)),
    ({"gateway": {"max_instances": 0}}, ("gateway.max_instances: is refused",)),
    ({"gateway": {"max_instances": 101}}, ("gateway.max_instances: is refused", "100")),
    ({"gateway": {"concurrency": 1001}}, ("gateway.concurrency: is refused", "1000")),
    ({"gateway": {"request_limit_mib": 32}}, ("gateway.request_limit_mib: is refused", "31")),
    ({"gateway": None}, ("gateway: must hold named settings",)),
    # images
    *(
        (
            {"gateway": {"caddy_image": image}},
            ("gateway.caddy_image: a full image name with an exact version", "nobody tested", "registry.example/name"),
        )
        for image in (
            "",
            "caddy",
            "caddy:2.11.7",
            "library/caddy:2.11.7",
            "docker.io/library/caddy",
            "docker.io/library/caddy:latest",
            "docker.io/library/caddy:2.11.7-latest",
            "docker.io/library/caddy:nightly-2.11.7",
            "docker.io/library/caddy:2",
            "docker.io/library/caddy:2.11",
            "docker.io/library/caddy:2.11.7\n",
            "docker.io/library/caddy:2.11.7 --privileged",
            "docker.io/library/caddy" + DIGEST,
            "https://docker.io/library/caddy:2.11.7",
        )
    ),
    ({"gateway": {"tailscale_image": "docker.io/tailscale/tailscale:stable"}}, ("gateway.tailscale_image: a full",)),
    ({"vm": {"image": "ghcr.io/ggml-org/llama.cpp:server"}}, ("vm.image: a full image name",)),
    # vm
    ({"vm": {"zone": "europe-west1-b"}}, ("vm.zone: a zone of gcp:region (us-central1)", "half-way", "us-central1-b")),
    ({"vm": {"zone": "us-central10-b"}}, ("vm.zone: a zone of gcp:region",)),
    ({"vm": {"zone": "b"}}, ("vm.zone: is refused", "`<gcp:region>-b`")),
    *(({"vm": {"machine_type": text}}, ("vm.machine_type: is refused",)) for text in ("big one", "e2", "E2-micro")),
    ({"vm": {"disk_gib": 9}}, ("vm.disk_gib: is refused",)),
    ({"vm": {"disk_gib": 1001}}, ("vm.disk_gib: is refused",)),
    ({"vm": {"max_requests": 65}}, ("vm.max_requests: is refused", "64")),
    # home
    ({"home": {"gpu_slices": 1}}, ("home.gpu_slices: is refused", "takes 2 at least")),
    ({"home": {"gpu_memory": 24}}, ("home.gpu_memory: a whole number with its unit", "write it as 24GiB")),
    ({"home": {"max_requests": 1001}}, ("home.max_requests: is refused",)),
    *(({"home": {"nodes": nodes}}, ("home.nodes: is refused", "one model runs on each")) for nodes in (0, 9)),
    (
        {"lanes": ["vm"], "home": {"nodes": 2}},
        ("home.nodes: 1 while `lanes` has no home, is 2", "no request", "add home to `lanes`, or leave `nodes` out"),
    ),
    *(({"home": {"hostname": name}}, ("home.hostname: is refused",)) for name in ("", "home.ts.net", "-a", "a-", "A")),
    *(({"home": {"namespace": name}}, ("home.namespace: is refused",)) for name in ("", "a-", "a_b", "a" * 64)),
    *(
        ({"home": {"namespace": name}}, ("home.namespace: the stack's own", "destroying the stack", "name another"))
        for name in ("default", "kube-system", "kube-public")
    ),
    # tailnet
    ({"tailnet": {"owners": []}}, ("tailnet.owners: is refused", "keep access to home")),
    *(
        ({"tailnet": {"owners": ["me@example.com", owner]}}, ("tailnet.owners.1: is refused", "Logins or `autogroup:`"))
        for owner in ("", " ", "*", "me", "tag:gateway", "autogroup:internet", "autogroup:danger-all", "*@example.com")
    ),
    ({"tailnet": {"key_expiry_days": 91}}, ("tailnet.key_expiry_days: 1 to 90 days, is 91", "Fix: set 90 or less")),
    ({"tailnet": {"key_expiry_days": 0}}, ("tailnet.key_expiry_days: 1 to 90 days, is 0",)),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED, ids=[json.dumps(changes)[:60] for changes, _ in REFUSED])
def test_a_bad_value_is_refused_by_name_rule_consequence_and_fix(
    settings_of: Make, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError, match=".*".join(map(re.escape, parts))) as caught:
        settings_of(**changes)
    for problem in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", problem), problem


ACCEPTED: list[dict[str, Any]] = [
    *(
        {"gateway": {"cors_origins": origins}}
        for origins in (
            [],
            ["*"],
            ["https://app.example.com", "https://app.example.com:8443", "https://x-1.a_b.example"],
            ["http://localhost", "http://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:3000"],
            [
                "http://app.localhost:3000",
                "https://10.0.0.7",
                "https://[fd7a::1]:8443",
                "https://xn--bcher-kva.example",
            ],
        )
    ),
    {},
    {"lanes": ["vm", "home"]},
    {"clients": [{"name": "a", "key": None}, {"name": "a-b", "key": "x" * 16}, {"name": "b", "key": "x" * 128}]},
    {"gateway": {"memory_mib": 928}},
    {"gateway": {"wait_s": 299}},
    {"gateway": {"min_instances": 1}},
    {"gateway": {"caddy_image": "docker.io/library/caddy:2.11.7" + DIGEST}},
    {"gateway": {"caddy_image": "us-docker.pkg.dev/my-project/mirror/caddy:2.11.7-alpine"}},
    {"vm": {"zone": "us-central1-f"}},
    {"home": {"hostname": "h", "namespace": "kubernetes-ai"}},
    {"home": {"owner": False}},
    {"home": {"owner": False, "nodes": 8}},
    {"tailnet": {"owners": ["me@example.com", "me@github", "autogroup:owner"]}},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=[json.dumps(changes)[:60] for changes in ACCEPTED])
def test_a_good_value_is_not_refused(settings_of: Make, changes: dict[str, Any]) -> None:
    settings_of(**changes)


@pytest.mark.parametrize("around", ["{}\n", "\n{}", "  {} \t", "{}\r\n"])
def test_blanks_and_newlines_around_a_key_are_dropped(settings_of: Make, around: str) -> None:
    """They come with every `pulumi config set < file` and make a key that nobody can send."""
    key = "0123456789abcdef"
    [client] = settings_of(clients=[{"name": "a", "key": around.format(key)}]).clients
    assert client.key
    assert client.key.get_secret_value() == key


def test_settings_are_frozen(settings_of: Make) -> None:
    settings = settings_of()
    for section, field in ((settings, "lanes"), (settings.gateway, "wait_s"), (settings.services[0], "weights")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, field, getattr(section, field))


def test_secrets_are_not_shown_with_the_settings(settings_of: Make) -> None:
    settings = settings_of(clients=[{"name": "a", "key": "do-not-show-this-key"}])
    assert "do-not-show" not in f"{settings!r}{settings}{settings.model_dump_json()}"


def test_a_zone_is_made_from_the_region(settings_of: Make) -> None:
    assert settings_of().zone == "us-central1-b"
    assert settings_of(vm={"zone": "us-central1-f"}).zone == "us-central1-f"


# --- planted mistakes: a rule that is taken away lets the value through -----------------------------------------------


def nothing(_: Settings) -> list[str]:
    """A group of rules that refuses nothing."""
    return []


TAKEN_AWAY: list[tuple[str, object, dict[str, Any]]] = [
    ("BODY_COPIES", 0.1, {"gateway": {"memory_mib": 512}}),
    ("CADDY_BASE_MIB", 0, {"gateway": {"memory_mib": 927}}),
    ("EXACT_IMAGE", re.compile(".*"), {"gateway": {"caddy_image": "docker.io/library/caddy:latest"}}),
    ("_lanes", nothing, {"lanes": []}),
    ("_gateway", nothing, {"gateway": {"wait_s": 300}}),
    ("_images", nothing, {"vm": {"image": "ghcr.io/ggml-org/llama.cpp:server"}}),
    ("_home", nothing, {"home": {"namespace": "kube-system"}}),
    ("_home", nothing, {"lanes": ["vm"], "home": {"nodes": 2}}),
]


@pytest.mark.parametrize(("rule", "value", "changes"), TAKEN_AWAY, ids=[row[0] for row in TAKEN_AWAY])
def test_each_refusal_comes_from_its_rule(
    settings_of: Make, monkeypatch: pytest.MonkeyPatch, rule: str, value: object, changes: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError):
        settings_of(**changes)
    monkeypatch.setattr(rules, rule, value)
    settings_of(**changes)
