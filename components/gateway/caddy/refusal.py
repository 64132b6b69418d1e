"""What no lane can answer in time is said at once: a place in the walk after every lane, and the answer given there.

Owns: a loopback listener of the same Caddy that is as good as a lane to the walk (it is asked, it is up or down, it
answers) and stands for none; the words of the 503. Does not own: when it is up (`checks`, by what the pilot says), the
walk (`walk`).

It answers with a status of its own, because 503 means `not here, not now`: it would be retried on, and counted against
the address.
"""

from typing import Final

from components import ports
from components.gateway.caddy import answers
from components.gateway.caddy.answers import Json

DIAL: Final = ports.loopback(ports.REFUSAL)
STATUS: Final = 599
"""An answer that no lane gives."""
RETRY_AFTER_S: Final = 60
"""A tunnel or a model server that starts again needs about as long."""


def server() -> Json:
    """Caddy's server. The outer request is logged; as in front of callers, it does not wait for a large body's rest."""
    return {
        "listen": [DIAL],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "read_idle_timeout": -1,
        "routes": [{"handle": [{"handler": "static_response", "status_code": STATUS}]}],
    }


def routes(timeout_s: int) -> list[Json]:
    """Of the errors: what was answered in the place of a lane."""
    return [{"match": [{"expression": f"{{http.error.status_code}} == {STATUS}"}], "handle": [too_slow(timeout_s)]}]


def too_slow(timeout_s: int, known_s: float | None = None) -> Json:
    """503 for the caller. `known_s`: how long it would take, where that depends on nothing but the size."""
    begins = f"after more than {timeout_s} s" if known_s is None else f"after about {known_s:.0f} s"
    message = (
        f"On the VM, the only lane that can answer now, an answer to a request of this size begins {begins}; a request "
        + f"may take {timeout_s} s in all. Send less text or a smaller picture, or try again later."
    )
    # The stock SDK would send it twice more before it told the caller.
    return answers.error(503, "too_slow", message, retry_after=RETRY_AFTER_S, x_should_retry="false")
