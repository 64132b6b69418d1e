"""The running lab of the clients uses the declaration's fixed addresses."""

from tests.lab.conftest import declared_addresses

__all__ = ["declared_addresses"]
