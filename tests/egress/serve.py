"""`python -m tests.egress.serve MODEL PROJECTOR PORT`: llama.cpp's own server with pictures, until it is killed."""

import importlib
import signal
import sys

from lab.programs import die_with_parent
from lab.programs.model_server import parsed

SMALL = ("--ctx-size", "2048", "--parallel", "2", "--threads", "1", "--poll", "0", "--fit", "off", "--no-ui")


def main(model: str, projector: str, port: str) -> None:
    die_with_parent()
    files = ("--model", model, "--mmproj", projector, "--no-mmproj-offload")
    params = parsed([*files, "--host", "0.0.0.0", "--port", port, *SMALL])
    server = importlib.import_module("xllamacpp").Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
