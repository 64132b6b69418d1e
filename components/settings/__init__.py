"""The settings: every key of `Pulumi.<stack>.yaml`, read, checked, and handed on as plain values.

Owns: the keys, their types, defaults, units and rules; one file per key. Does not own: what is built from them.
"""

from components.settings.section import Lane
from components.settings.stack import Settings

__all__ = ["Lane", "Settings"]
