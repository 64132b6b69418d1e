"""`python -m tests.egress.serve MODEL PROJECTOR PORT`: llama.cpp's own server with pictures, until it is killed."""

import importlib
import signal
import sys
from typing import Any

from lab.programs import die_with_parent


def main(model: str, projector: str, port: str) -> None:
    die_with_parent()
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path, params.mmproj_use_gpu = model, projector, False
    params.hostnames, params.port = ["0.0.0.0"], int(port)
    params.n_ctx, params.n_parallel, params.ui, params.fit_params = 2048, 2, False, False
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads, cpu.poll = 1, 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
