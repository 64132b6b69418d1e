"""What every test needs before it runs the program, and the workers of a parallel run.

Each worker gets a network of its own where the system gives one (`lab.run.own_network`), so that several labs run side
by side, though the declaration fixes their ports. Elsewhere all tests that need these ports share one worker.
"""

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import execnet
import hypothesis
import pulumi_gcp
import pytest
from xdist.scheduler import LoadFileScheduling  # pyright: ignore[reportMissingTypeStubs]

from lab.run import own_network
from tests.bootstrap import nft

# pulumi-gcp warns about its own classes while it loads, which is at first use. Warnings are errors in tests, and a
# module that fails to load stays half loaded.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    assert pulumi_gcp.compute.Instance
    assert pulumi_gcp.monitoring.AlertPolicy
    assert pulumi_gcp.storage.Bucket

# How much is drawn for a property: `fast`, unless pytest is called with `--hypothesis-profile=full`. The draws are the
# same every time, so no example is kept on disk, and what fails is shown as drawn.
hypothesis.settings.register_profile(
    "fast",
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.register_profile("full", hypothesis.settings.get_profile("fast"), max_examples=1000)
hypothesis.settings.load_profile("fast")

OWN_NETWORK: Final = Path(own_network.__file__)
FIXED_PORTS: Final = (
    "tests/lab/",
    "tests/clients/",
    "tests/docs/",
    "tests/gateway/",
    "tests/attack/",
    "tests/tailnet/",
)
"""Where tests are that use the declaration's fixed ports."""
WHY_SHARED: Final = pytest.StashKey[str]()
"""Why the workers have no networks of their own; empty if they have."""


def pytest_xdist_auto_num_workers() -> int:
    """For `--numprocesses=auto`: two a core, since most tests wait; each takes 400 MB, and long files are few."""
    return min(2 * (os.cpu_count() or 1), 8)


def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[execnet.XSpec]) -> None:
    tried = subprocess.run([sys.executable, OWN_NETWORK, "-c", ""], capture_output=True, text=True, check=False)
    config.stash[WHY_SHARED] = tried.stderr.strip()
    # The last one that can fetch anything: in its own network a worker has no way out.
    nft.program()
    for spec in specs if tried.returncode == 0 else ():
        spec.python = f"'{sys.executable}' '{OWN_NETWORK}'"


class ByFile(LoadFileScheduling):
    """A file's tests stay on one worker, which renders its stacks and starts its lab once."""

    def _split_scope(self, nodeid: str) -> str:
        shared = self.config.stash[WHY_SHARED] and nodeid.startswith(FIXED_PORTS)
        return "fixed ports" if shared else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if why := config.stash.get(WHY_SHARED, ""):
        terminalreporter.write_line(f"no network namespaces here ({why}): {', '.join(FIXED_PORTS)} ran on one worker")


@pytest.fixture(scope="session", autouse=True)
def own_lab_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A lab under test shares no state with another one, or with that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTLIGHT_LAB_FOLDER", str(tmp_path_factory.mktemp("lab")))
        yield


# --- a warning belongs to the test that caused it ---------------------------------------------------------------------


def pytest_collection_finish() -> None:
    # What the imports made is never searched again: it outweighs whatever a test makes.
    gc.collect()
    gc.freeze()


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def collected() -> Iterator[None]:
    """What a test, class or module opens and nobody closes warns at its end, and not where the collector comes by."""
    before = open_files()
    yield
    if open_files() > before:
        gc.collect()


# First in their scope, so last at its end. Only a scope in which more is open than before costs a collection.
collected_after_module = pytest.fixture(scope="module", autouse=True)(collected)
collected_after_class = pytest.fixture(scope="class", autouse=True)(collected)
collected_after_test = pytest.fixture(autouse=True)(collected)
