"""When an ID token ends."""

import base64
import json

import pytest

from components.gateway.pilot.id_token import expiry


def jwt(payload: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip('=')}.sig"


@pytest.mark.parametrize(
    ("token", "end"),
    [
        (jwt({"exp": 5000}), 5000),
        (jwt({"exp": 5000, "a": "bc"}), 5000),
        ("opaque", 1000 + 1800 + 300),
        (jwt({}), 1000 + 1800 + 300),
        (jwt([]), 1000 + 1800 + 300),
        ("a.b.c", 1000 + 1800 + 300),
    ],
)
def test_end_is_the_token_s_own_or_half_an_hour_s(token: str, end: float) -> None:
    assert expiry(token, 1000) == end
