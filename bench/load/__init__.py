"""What stands around a system under load: the generators in front of it, and the model servers behind it.

Each is a process of its own on the load's core. `backend` answers, `closed` and `jobs` ask, `socks` stands in the
tunnel's place.
"""


def address(place: str) -> tuple[str, int]:
    """Of `HOST:PORT`, as the command lines name it."""
    host, _, port = place.rpartition(":")
    return host, int(port)
