"""An `up` or a `destroy` that ends halfway, with the real engine: the next one goes on where it ended."""

import shutil
from collections.abc import Generator, Mapping
from typing import Any, Final

import pytest

from tests.engine import google
from tests.engine.behaviour import FailsOnce
from tests.engine.pulumi_cli import Engine, Factory, engines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi CLI on PATH"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_gcp"),
]

LATE_S: Final = 3.0
TRIES: Final = 20
"""More than the longest chain of resources that wait for each other."""
ALL_LANES: Final[Mapping[str, Any]] = {"pilotlight:lanes": ["home", "burst", "vm"]}


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Factory]:
    with engines(tmp_path_factory.mktemp("halfway")) as made:
        yield made


def test_the_first_up_waits_until_new_grants_count(factory: Factory) -> None:
    stack = factory.stack("waiting", grants_s=LATE_S + 0.5)
    stack.write_config(ALL_LANES)
    with stack.provider.also(google.LateGrants(LATE_S)):
        stack.up()
        stack.write_config({"pilotlight:clients": [{"name": "demo"}, {"name": "new"}]})
        stack.up()
    assert [change for change in stack.provider.changes if change[1] == "gateway-service"] == [
        ("create", "gateway-service"),
        ("update", "gateway-service"),
    ]
