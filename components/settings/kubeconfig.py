"""What a kubeconfig's text says, and whether it will do.

Owns: the text, in words that hold nothing of it: it is secret. Does not own: whose it may be (`rules`), the cluster.
"""

from typing import Any, cast

import yaml


def fault(text: str) -> str:
    """What is wrong with the text, in words that hold nothing of it: it is secret. Empty if it will do."""
    try:
        # Every scalar stays text: numbers and dates that can't be built would quote themselves in an error.
        loaded: object = yaml.load(text, yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        # Not the mark's own text: it quotes the line.
        mark = error.problem_mark
        return "must be YAML, is broken" + (f" at line {mark.line + 1}, column {mark.column + 1}" if mark else "")
    except (yaml.YAMLError, RecursionError):
        return "must be YAML, is broken"
    if not isinstance(loaded, dict):
        return "must be a mapping"
    config = cast(dict[str, Any], loaded)
    missing = [key for key in ("clusters", "users", "contexts", "current-context") if not config.get(key)]
    if missing:
        return f"lacks {', '.join(missing)}"
    context = _entry(config, "contexts", config["current-context"]).get("context")
    if not isinstance(context, dict):
        return "must have the context that current-context names"
    chosen = cast(dict[str, Any], context)
    cluster = _entry(config, "clusters", chosen.get("cluster")).get("cluster")
    if not isinstance(cluster, dict) or not cast(dict[str, Any], cluster).get("server"):
        return "must have the cluster of its current context, with a server"
    if not _entry(config, "users", chosen.get("user")):
        return "must have the user of its current context"
    return ""


def _entry(config: dict[str, Any], key: str, name: object) -> dict[str, Any]:
    """The item of the list `key` that has this name, or nothing."""
    items = cast(list[Any], config[key]) if isinstance(config[key], list) else []
    named = (cast(dict[str, Any], item) for item in items if isinstance(item, dict))
    return next((item for item in named if item.get("name") == name), dict[str, Any]())
