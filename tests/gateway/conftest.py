"""What the planted mistakes need."""

import pytest

from tests import kit


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a check that must fail: it waits briefly for what never comes."""
    monkeypatch.setattr(kit, "WAIT_S", 5.0)
