"""A request of more than a minute: every hop on its way is declared to wait for it, in both directions.

`make home` sends one; here the declared limits are read, hop by hop, from what the program registers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import helm_python
import pytest
import yaml

from lab.read.stack import ROOT, Stack
from tests.kit import packed, unpacked

Render = Callable[..., Stack]
Plant = Callable[[Stack, str, str, Any], Stack]
LONG_S = 300
"""What the design promises."""
TRAEFIK_IDLE_S = 90
"""Traefik's own: how long it keeps an idle connection to a pod."""
SERVICES = [{"name": "vllm", "preset": "model"}, {"name": "tts", "preset": "tts"},
            {"name": "embed", "preset": "embeddings"}]  # fmt: skip


def one(stack: Stack, name: str) -> dict[str, Any]:
    [found] = [resource for resource in stack.resources if resource.name == name]
    return found.inputs


def check_cloud_run(stack: Stack) -> None:
    assert float(one(stack, "gateway-service")["template"]["timeout"].removesuffix("s")) >= LONG_S


def check_caddy(stack: Stack) -> None:
    """Headers come in 10 s; bodies and answers take what they take."""
    config = json.loads(unpacked(one(stack, "gateway-caddy-config-version")["secretData"]))
    api = config["apps"]["http"]["servers"]["api"]
    assert not {"read_timeout", "write_timeout"} & api.keys()
    assert api["read_idle_timeout"] == -1
    # Not those that ask the pilot, and have a rewrite for it.
    to_lanes = [proxy for proxy in _proxies(api) if "rewrite" not in proxy]
    assert len(to_lanes) >= 2 * len(SERVICES)
    for proxy in to_lanes:
        limits = {"response_header_timeout", "read_timeout", "write_timeout"}
        assert not limits & proxy["transport"].keys()
        assert not {"stream_timeout", "response_buffers"} & proxy.keys()


def _proxies(part: Any) -> list[dict[str, Any]]:
    """Every proxy handler in a part of Caddy's configuration."""
    if isinstance(part, list):
        return [found for item in cast(list[Any], part) for found in _proxies(item)]
    if not isinstance(part, dict):
        return []
    own = cast(dict[str, Any], part)
    return [own] * (own.get("handler") == "reverse_proxy") + [
        found for item in own.values() for found in _proxies(item)
    ]


def check_traefik(stack: Stack) -> None:
    values = yaml.safe_load(one(stack, "home-traefik")["spec"]["valuesContent"])
    timeouts = values["ports"]["web"]["transport"]["respondingTimeouts"]
    for key in ("readTimeout", "writeTimeout", "idleTimeout"):
        seconds = int(timeouts[key].removesuffix("s"))
        assert seconds == 0 or seconds > LONG_S, key


def check_pods(stack: Stack) -> None:
    """A pod that is told to go finishes what runs, and doesn't close a connection Traefik is about to use."""
    for service in SERVICES:
        release = one(stack, f"home-{service['name']}")
        with helm_python.Chart.load(ROOT / release["chart"]) as chart:
            manifests = chart.render(release["values"], name=release["name"], namespace="n")
        [deployment] = [text for path, text in manifests.items() if Path(path).name == "deployment.yaml"]
        spec = yaml.safe_load(deployment)["spec"]["template"]["spec"]
        [container] = spec["containers"]
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] > LONG_S + pause, service
        env = {item["name"]: item["value"] for item in container["env"]}
        kept = env.get("VLLM_HTTP_TIMEOUT_KEEP_ALIVE") or env["UVICORN_TIMEOUT_KEEP_ALIVE"]
        assert int(kept) > TRAEFIK_IDLE_S, service
        if "vllm-openai" in container["image"]:
            args = container["args"]
            assert int(args[args.index("--shutdown-timeout") + 1]) >= LONG_S


CHECKS = (check_cloud_run, check_caddy, check_traefik, check_pods)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_hop_waits(stack_of: Render, check: Callable[[Stack], None]) -> None:
    check(stack_of(services=SERVICES))


def traefik(text: str) -> str:
    return f"ports: {{web: {{transport: {{respondingTimeouts: {text}}}}}}}"


DEFAULTS = {"readTimeout": "360s", "writeTimeout": "0s", "idleTimeout": "360s"}


@pytest.mark.parametrize(
    ("check", "name", "path", "value"),
    [
        (check_cloud_run, "gateway-service", "inputs.template.timeout", "60s"),
        *(
            (check_traefik, "home-traefik", "inputs.spec.valuesContent", traefik(json.dumps(DEFAULTS | {key: "60s"})))
            for key in DEFAULTS
        ),
        (check_pods, "home-tts", "inputs.values.drain.requestSeconds", 30),
        (check_pods, "home-tts", "inputs.values.env.UVICORN_TIMEOUT_KEEP_ALIVE", "5"),
        (check_pods, "home-vllm", "inputs.values.env.VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "5"),
        (check_pods, "home-embed", "inputs.values.args", ["--shutdown-timeout", "30"]),
    ],
)
def test_one_hop_that_doesn_t_is_seen(
    stack_of: Render, planted: Plant, check: Callable[[Stack], None], name: str, path: str, value: object
) -> None:
    with pytest.raises(AssertionError):
        check(planted(stack_of(services=SERVICES), name, path, value))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"read_idle_timeout":-1', '"read_idle_timeout":60000000000'),
        ('"read_idle_timeout":-1', '"read_idle_timeout":-1,"write_timeout":"60s"'),
        ('"dial_timeout":"1s"', '"response_header_timeout":"60s"'),
        ('"transport":{', '"response_buffers":65536,"transport":{'),
    ],
)
def test_a_limit_in_caddy_is_seen(stack_of: Render, planted: Plant, right: str, wrong: str) -> None:
    stack = stack_of(services=SERVICES)
    text = unpacked(one(stack, "gateway-caddy-config-version")["secretData"])
    assert right in text
    wrong_text = packed(text.replace(right, wrong, 1))
    broken = planted(stack, "gateway-caddy-config-version", "inputs.secretData", wrong_text)
    with pytest.raises(AssertionError):
        check_caddy(broken)
