"""The running labs of the pages use the declaration's fixed addresses."""

from tests.lab.conftest import declared_addresses

__all__ = ["declared_addresses"]
