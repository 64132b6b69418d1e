"""Where nobody holds the line: the last place in the walk, whose answer means `look again`, a tenth of a second later.

Owns: a loopback listener of the same Caddy that is as good as a lane to the walk, stands for none and is always up.
Does not own: the line (`line`), which comes before it, the walk (`walk`).

Caddy's own waiting goes by the configuration's life and not by the request's: who hangs up stays until his wait is
over, and so does his body. An attempt ends with its caller. So while the pilot is away, and where there is none, who
finds no lane makes one here. He says that his body comes when it is asked for (`Expect`), which it never is: nothing
of it is sent.
"""

from typing import Any, Final

from components import ports
from components.gateway.caddy import answers, line
from components.gateway.caddy.answers import Json

DIAL: Final = ports.loopback(ports.PAUSE)
HOLD: Final = "100ms"
"""Until he looks for a lane again. Nobody is told when one is free: of ten who wait one looks within 10 ms."""
BODY_AFTER: Final = "5s"
"""Without a word from the listener the body would be sent, seconds: it says one after `HOLD`."""
EXPECT: Final = {"Expect": "100-continue"}
NO_PAUSE_S: Final = "{no_pause_s}"
"""Placeholder: the header that holds a body back, where the attempt is on a lane, and nothing otherwise."""


def server() -> Json:
    """Caddy's server. Its proxy has no upstream, and looks for one until the time is over: Caddy has no other clock."""
    wait: Json = {
        "handler": "reverse_proxy",
        "upstreams": [],
        "load_balancing": {"try_duration": HOLD, "try_interval": HOLD},
    }
    again: Json = {"handler": "static_response", "status_code": line.STATUS}
    return {
        "listen": [DIAL],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "read_idle_timeout": -1,
        "routes": [{"handle": [answers.subroute([{"handle": [wait]}], on_error=[{"handle": [again]}])]}],
    }


def named(by_address: dict[str, Any]) -> Json:
    """The map of the lanes' names and marks, with the pause, which is no lane, and with `NO_PAUSE_S`."""
    here: Json = {"input": DIAL, "outputs": [*by_address["defaults"], ""]}
    others: list[Json] = [{**each, "outputs": [*each["outputs"], *EXPECT]} for each in by_address["mappings"]]
    return {
        **by_address,
        "destinations": [*by_address["destinations"], NO_PAUSE_S],
        "mappings": [*others, here],
        "defaults": [*by_address["defaults"], *EXPECT],
    }
