"""The settings of what tells the owner in time.

Owns: the values, each for itself. Does not own: what is built from them (`alerts`).
"""

from pydantic import Field

from components.section import Section


class AlertSettings(Section):
    """What tells the owner before something ends or breaks."""

    email: str = Field(
        default="",
        pattern=r"^([^@\s]+@[^@\s]+\.[^@\s]+)?$",
        description="Who is told before the gateway's auth key ends. Empty: nobody.",
    )
