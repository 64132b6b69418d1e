"""A worker's own network: the declaration's fixed ports are free in each, so labs run side by side."""

import subprocess
import sys

import pytest

from tests.conftest import OWN_NETWORK

LISTEN = "import socket; s = socket.create_server(('127.0.0.2', 9931)); print('listens', flush=True); input()"


def start() -> subprocess.Popen[str]:
    words = [sys.executable, OWN_NETWORK, "-c", LISTEN]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_two_may_have_the_same_address_at_once() -> None:
    if subprocess.run([sys.executable, OWN_NETWORK, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here")
    with start() as one, start() as other:
        assert [process.communicate("\n")[0] for process in (one, other)] == ["listens\n"] * 2
