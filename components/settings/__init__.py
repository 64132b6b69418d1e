"""The settings: what may stand in `Pulumi.<stack>.yaml`, read, checked, and handed on as plain values."""

from components.settings.section import Lane
from components.settings.stack import Settings

__all__ = ["Lane", "Settings"]
