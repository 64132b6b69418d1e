"""`python -m tests.vllm_flags FOLDER > tests/unit/settings/vllm-0.29.0-flags.txt`: every flag of `vllm serve`.

FOLDER holds vLLM's wheel, unpacked (`pip download --no-deps vllm==0.29.0`; the parser itself only runs with torch).
`make_arg_parser` takes three kinds: its own, the fields of two frontend classes, and what the engine classes add.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

CLI = "vllm/entrypoints/launchers/cli_args.py"
ENGINE = "vllm/engine/arg_utils.py"


def flags(folder: Path) -> set[str]:
    """All of them, with their dashes."""
    cli, engine = (ast.parse((folder / path).read_text()).body for path in (CLI, ENGINE))
    found: set[str] = set()
    for node in cli:
        if isinstance(node, ast.FunctionDef) and node.name == "make_arg_parser":
            found.update(_added(node))
        if isinstance(node, ast.ClassDef) and node.name in ("BaseFrontendArgs", "FrontendArgs"):
            fields = (item.target for item in node.body if isinstance(item, ast.AnnAssign))
            found.update("--" + field.id.replace("_", "-") for field in fields if isinstance(field, ast.Name))
    for node in engine:
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs"):
            found.update(_added(node))
    return found


def _added(node: ast.AST) -> Iterator[str]:
    """Names of `add_argument(...)` calls."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            names = (word.value for word in call.args if isinstance(word, ast.Constant))
            yield from (name for name in names if isinstance(name, str) and name.startswith("--"))


if __name__ == "__main__":
    print("\n".join(sorted(flags(Path(sys.argv[1])))))
