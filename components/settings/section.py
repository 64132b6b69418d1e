"""What every group of settings is, and the lanes by name."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Lane(StrEnum):
    """Where a request can be answered, in the order of the request path."""

    HOME = "home"
    BURST = "burst"
    VM = "vm"


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
