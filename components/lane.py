"""The lanes by name."""

from enum import StrEnum


class Lane(StrEnum):
    """Where a request can be answered, in the order of the request path."""

    HOME = "home"
    BURST = "burst"
    VM = "vm"
