"""What the planted mistakes need."""

from tests.gateway.conftest import impatient

__all__ = ["impatient"]
