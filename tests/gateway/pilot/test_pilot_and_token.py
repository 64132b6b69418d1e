"""The running pilot and burst's ID token: always whole in its file, renewed in time, and when burst refuses it."""

import time

from components.gateway.pilot.id_token import LEAST_RENEWAL_S
from tests.gateway.pilot.running import piloted
from tests.gateway.pilot.world import World
from tests.kit import WAIT_S, until


def test_token_is_written_whole_and_renewed(world: World) -> None:
    world.token_life = 300 + 2.5
    with piloted(world):
        path = world.folder / "id-token"
        until(path.exists)
        seen = {path.read_text()}
        assert path.stat().st_mode & 0o777 == 0o600
        asked = world.metadata.asked[0]
        assert asked.headers["metadata-flavor"] == "Google"
        prefix = "/computeMetadata/v1/instance/service-accounts/default/identity?audience="
        assert asked.path == f"{prefix}http%3A%2F%2F127.0.0.1%3A{world.burst.port}&format=full"
        deadline = time.monotonic() + WAIT_S
        # As often as this process can: a file that is gone or empty for a moment is seen.
        while path.read_text() == world.tokens[0] and time.monotonic() < deadline:
            pass
        seen.add(path.read_text())
        assert len(world.tokens) == 2, "renewed five minutes before its end, and once"
        assert seen == set(world.tokens), "never empty, never half, no newline"
        assert 2 < world.metadata.asked[1].at - asked.at < LEAST_RENEWAL_S
        assert sorted(p.name for p in world.folder.iterdir()) == ["admin.sock", "id-token", "log", "tailscaled.sock"]


def test_token_that_burst_refuses_is_renewed(world: World) -> None:
    with piloted(world) as pilot_:
        until(lambda: pilot_.status()["token"]["expires"] is not None)
        world.token_refused = set(world.tokens)
        world.in_flight["vm"] = 2
        # The metadata server is asked every five seconds at most.
        pilot_.reaches("warm")
        assert len(world.tokens) == 2
        assert (world.folder / "id-token").read_text() == world.tokens[1]
