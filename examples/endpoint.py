"""Where the examples call: what a client was handed, or the outputs of a deployed stack, or of the running lab.

`PILOTLIGHT_OUTPUTS=outputs.json` names a file written by `pulumi stack output --json --show-secrets`; without it the
three variables of a client's `.env` are taken, where all are set; else the lab on this machine is asked.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 300.0
"""As long as the gateway lets a request run: a shorter client limit would give up while the model still starts."""


def outputs() -> dict[str, Any]:
    """Base URL, keys and model, named as the outputs are; ends the program with a sentence when there are none."""
    path = os.environ.get("PILOTLIGHT_OUTPUTS")
    if path:
        found: dict[str, Any] = json.loads(Path(path).read_text())
        return found
    handed = {name: os.environ.get(f"OPENAI_{name}") for name in ("BASE_URL", "API_KEY", "MODEL")}
    if all(handed.values()):
        return {"base_url": handed["BASE_URL"], "api_keys": {"env": handed["API_KEY"]}, "model": handed["MODEL"]}
    command = [sys.executable, "-m", "lab", "outputs", "--json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        sys.exit(answer.stderr.strip() or "no outputs")
    return json.loads(answer.stdout)


def client(found: dict[str, Any]) -> OpenAI:
    """A stock OpenAI client with the key of the first declared client."""
    key = next(iter(found["api_keys"].values()))
    return OpenAI(base_url=found["base_url"], api_key=key, timeout=TIMEOUT_S)


def ask(messages: list[ChatCompletionMessageParam], max_tokens: int) -> None:
    """Prints the answer as it is generated, and which lane gave it."""
    found = outputs()
    stream = client(found).chat.completions.create(
        model=found["model"], messages=messages, max_tokens=max_tokens, stream=True
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="", flush=True)
    print(f"\n(served by {stream.response.headers.get('X-Served-By')})", file=sys.stderr)
