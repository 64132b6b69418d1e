"""Joining without a key: the stand-in of the entrypoint takes the identity that the lab's Google vouches for."""

import asyncio
from collections.abc import Generator

import pytest

from lab.programs import federation
from lab.run.metadata import Identities
from lab.run.ports import free_port
from tests.kit import loop_beside

TRUSTED = {
    "client_id": "T1CNTRL",
    "issuer": "https://accounts.google.com",
    "subject": "1234567890",
    "audience": "api.tailscale.com/T1CNTRL",
}


@pytest.fixture
def metadata() -> Generator[str]:
    """Address of a metadata server that vouches for the trusted account."""
    port, identities = free_port(), Identities()
    serving = identities.serve("gateway@x.iam.gserviceaccount.com", port, subject=TRUSTED["subject"])
    with loop_beside() as loop:
        asyncio.run_coroutine_threadsafe(serving, loop).result(10)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            asyncio.run_coroutine_threadsafe(identities.stop(), loop).result(10)


def declared(metadata: str, **change: str) -> dict[str, str]:
    return {
        "GCE_METADATA_HOST": metadata,
        "TS_CLIENT_ID": "T1CNTRL?ephemeral=true&preauthorized=true",
        "TS_AUDIENCE": TRUSTED["audience"],
        "TS_EXTRA_ARGS": "--advertise-tags=tag:gateway --shields-up",
    } | change


def test_the_trusted_identity_may_join(metadata: str) -> None:
    assert federation.refusal(declared(metadata), TRUSTED) == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"TS_CLIENT_ID": "T2CNTRL?ephemeral=true&preauthorized=true"}, "another client_id"),
        ({"TS_CLIENT_ID": "T1CNTRL"}, "ephemeral and preauthorized"),
        ({"TS_CLIENT_ID": "T1CNTRL?preauthorized=true"}, "ephemeral and preauthorized"),
        ({"TS_AUDIENCE": "https://burst.run.app"}, "another audience"),
        ({"TS_AUDIENCE": ""}, "no identity token: 400"),
        ({"TS_EXTRA_ARGS": "--shields-up"}, "require --advertise-tags"),
        ({"GCE_METADATA_HOST": "127.0.0.1:1"}, "no identity token: "),
    ],
)
def test_another_environment_may_not(metadata: str, change: dict[str, str], told: str) -> None:
    assert told in federation.refusal(declared(metadata, **change), TRUSTED)


@pytest.mark.parametrize("name", ["client_id", "issuer", "subject", "audience"])
def test_a_tailnet_that_trusts_somebody_else_refuses(metadata: str, name: str) -> None:
    assert f"another {name}" in federation.refusal(declared(metadata), TRUSTED | {name: "other"})


def test_a_tailnet_that_trusts_nobody_refuses(metadata: str) -> None:
    assert "another audience, client_id, issuer, subject" in federation.refusal(declared(metadata), {})
