"""LiteLLM's proxy, from PyPI: one worker, a key, no database. Its log is at its quietest."""

import contextlib
import json
from collections.abc import Generator, Sequence

from bench.processes import started
from bench.systems.system import MODEL, VM, Lane, Place, Running, System
from lab.read.stack import ROOT

PROGRAM = ROOT / ".bench/python/bin/litellm"
KEY = "sk-bench-0123456789"


def system(lanes: Sequence[Lane] = (VM,)) -> System:
    """In front of `lanes`; the further ones are the first one's fallbacks."""
    names = [MODEL, *(f"{MODEL}-{lane.name}" for lane in lanes[1:])]

    @contextlib.contextmanager
    def start(place: Place) -> Generator[Running]:
        file = place.folder / "litellm.yaml"
        models = [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"http://{lane.address}/v1",
                    "api_key": "none",
                },
            }
            for name, lane in zip(names, lanes, strict=True)
        ]
        router = {"fallbacks": [{MODEL: names[1:]}]} if len(names) > 1 else {}
        # JSON is YAML.
        file.write_text(json.dumps({"model_list": models, "router_settings": router,
                                    "general_settings": {"master_key": KEY}}))  # fmt: skip
        command = [str(PROGRAM), "--config", str(file), "--host", "127.0.0.1", "--port", str(place.port)]
        # No look-up of prices on the network at start.
        env = {"HOME": str(place.folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        with started("litellm", command, place.core, place.folder, env) as process:
            yield Running(f"127.0.0.1:{place.port}", [process], {"Authorization": f"Bearer {KEY}"})

    missing = "" if PROGRAM.exists() else "PyPI's package litellm is not in .bench"
    return System("LiteLLM", start, missing, tuple(lanes), start_s=120.0, slow=True)
