"""How each program here is asked for its scenarios: names, one a line, and a line of JSON for what came of each."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

Scenario = Callable[[], dict[str, Any]]


def answer(scenarios: Sequence[Scenario], failure: type[Exception]) -> None:
    """Until the input ends. `failure`: what the client raises, which is told and not raised."""
    for line in sys.stdin:
        [scenario] = [each for each in scenarios if each.__name__ == line.strip()]
        try:
            told = scenario()
        except failure as error:
            told = {"error": type(error).__name__, "status": getattr(error, "status_code", None)}
        print(json.dumps(told), flush=True)
