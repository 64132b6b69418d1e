"""Rules of the model, checked before any resource exists: what the lanes need of it, its names, limits and cards.

Owns: the rules between `model`'s values, and between them and the lanes with their cards. Does not own: the VM's memory
(`vm_rules`), the sum of all services on home's card (`service_rules`), the form of a refusal (`section`).
"""

from math import ceil

from components import vllm
from components.machines.memory import CARD_GIB, GIB, VLLM_WORK_GIB, cache_gib, vllm_gib
from components.machines.requests import ANSWER_TOKENS, TEXT_TOKENS
from components.settings.declared_services import RESERVE_MIB, Service, declared
from components.settings.model import CONTEXT_STEP, least_context, nearest
from components.settings.section import Lane, mib, problem
from components.settings.stack import Settings


def broken(settings: Settings) -> list[str]:
    """Every rule the model breaks, a `problem` line each."""
    found = _declared(settings)
    # Arithmetic with what isn't declared would only repeat it.
    parts = (_aliases, _parsers, _vision, _limits, *(() if found else (_home_card, _burst_card)))
    return [*found, *(line for part in parts for line in part(settings))]


def _serving(settings: Settings) -> tuple[int, Service] | None:
    """The service at home that is vLLM with the model of every lane, with its number."""
    if Lane.HOME not in settings.lanes:
        return None
    services = enumerate(declared(settings))
    return next(((number, one) for number, one in services if one.completes and one.is_vllm), None)


def _vllm_lanes(settings: Settings) -> list[str]:
    """The lanes that vLLM serves on."""
    home = ["home"] if _serving(settings) else []
    return [*home, *(["burst"] if Lane.BURST in settings.lanes else [])]


def _declared(settings: Settings) -> list[str]:
    """What the engines of the declared lanes need, and nobody said."""
    given, model = settings.model, settings.contract.model
    lanes, commits = " and ".join(_vllm_lanes(settings)), f"https://huggingface.co/{model.weights}/commits/main"
    on_vm, own = Lane.VM in settings.lanes, given.preset is None
    whose = "of an own model (model.preset: null)" if own else f"of model.preset {given.preset}"
    needed: list[tuple[str, bool, str]] = [
        ("model.name", not model.name, "say how clients name it"),
        ("model.shape", own and given.shape is None, "take layers, heads and context from its config.json"),
        ("model.weights", bool(lanes) and not model.weights, "name its repository on Hugging Face"),
        (
            "model.revision",
            bool(lanes) and bool(model.weights) and not model.revision,
            f"set the commit, as shown under {commits}",
        ),
        (
            "model.weights_bytes",
            bool(lanes) and bool(model.weights) and not model.weights_bytes,
            "add up the sizes of its .safetensors files",
        ),
        ("model.gguf", on_vm and model.gguf is None, "give url, sha256 and bytes of a GGUF file of the same model"),
    ]
    return [
        problem(field, f"required {whose}, on the lanes {', '.join(settings.lanes)}",
                "a lane could not load it, or nobody could tell whether it fits", fix)
        for field, is_missing, fix in needed if is_missing
    ]  # fmt: skip


def _aliases(settings: Settings) -> list[str]:
    """Each name in the list of models is there once; Caddy's paths, by which one is looked up, know no upper case."""
    taken = {settings.contract.model.name.lower(): "model.name"}
    taken |= {one.model.lower(): f"the model of {one.name}" for one in declared(settings) if not one.completes}
    found: list[str] = []
    for number, alias in enumerate(settings.model.aliases):
        field = f"model.aliases.{number}"
        if owner := taken.get(alias.lower()):
            found.append(
                problem(field, f"a name of its own, {alias} is {owner}", "the list of models would have it twice, and "
                        + "clients could not tell which they ask", "leave it out, or name another")
            )  # fmt: skip
        taken[alias.lower()] = field
    return found


def _parsers(settings: Settings) -> list[str]:
    """Parsers that vLLM has, and one for tools where the VM would take them."""
    model = settings.contract.model
    known = {
        "model.tool_parser": (model.tool_parser, vllm.TOOL_PARSERS),
        "model.reasoning_parser": (model.reasoning_parser, vllm.REASONING_PARSERS),
    }
    found = [
        problem(field, f"a parser of vLLM 0.29.0, {parser!r} is none", "vLLM would end at its start, at home and on "
                + "burst", f"{nearest(parser, names)}Known: {', '.join(names)}")
        for field, (parser, names) in known.items() if parser and parser not in names
    ]  # fmt: skip
    lanes = " and ".join(_vllm_lanes(settings))
    if not model.tool_parser and lanes and Lane.VM in settings.lanes:
        found.append(
            problem("model.tool_parser", f"required while `lanes` has vm and {lanes}", "requests with tools would be "
                    + f"taken by the VM and refused by {lanes}", "name vLLM's parser for what the model writes, like "
                    + "hermes for Qwen, or leave vm out of `lanes`")
        )  # fmt: skip
    return found


def _vision(settings: Settings) -> list[str]:
    """Pictures on every lane, or on none."""
    given, model = settings.model, settings.contract.model
    found: list[str] = []
    if given.vision and not model.vision:
        found.append(
            problem("model.picture_side", "required with model.vision of a model without a preset that sees",
                    "nobody could tell how many tokens a picture has", "set 28 or 32: patch size x merge size in its "
                    + "preprocessor_config.json, or leave model.vision out")
        )  # fmt: skip
    if model.vision and not model.projector and Lane.VM in settings.lanes:
        found.append(
            problem("model.projector", "required of a model with vision while `lanes` has vm", "the VM would answer "
                    + "500 to every picture that the other lanes take", "give url, sha256 and bytes of its mmproj "
                    + "file, or set model.vision to false")
        )  # fmt: skip
    if given.projector and not model.vision and not given.vision:
        found.append(
            problem("model.projector", "only for a model with vision", "the VM would take pictures that the other "
                    + "lanes refuse", "set model.vision to true, or leave the projector out")
        )  # fmt: skip
    if model.projector and model.gguf and model.projector.filename == model.gguf.filename:
        found.append(
            problem("model.projector.url", "a file name of its own, it is the model's", "the one would overwrite the "
                    + "other at every boot of the VM", "name another file, or set model.vision to false")
        )  # fmt: skip
    return found


def _limits(settings: Settings) -> list[str]:
    """The limits of one request, against the model and the engines."""
    given, contract = settings.model, settings.contract
    found: list[str] = []
    if given.context_tokens > contract.model.shape.context_tokens:
        found.append(
            problem("model.context_tokens", f"at most {contract.model.shape.context_tokens}, what "
                    + f"{contract.model.name} was made for, is {given.context_tokens}", "vLLM would not start",
                    f"set it to {contract.model.shape.context_tokens // CONTEXT_STEP * CONTEXT_STEP} or less")
        )  # fmt: skip
    if given.context_tokens < least_context(contract):
        parts = f"{contract.most_picture_tokens} of a picture + " if contract.model.vision else ""
        parts += f"{TEXT_TOKENS} of a question + {ANSWER_TOKENS} of an answer"
        found.append(
            problem("model.context_tokens", f"at least {least_context(contract)} ({parts} tokens), is "
                    + f"{given.context_tokens}", "a picture and its answer would fit on no lane",
                    f"set it to {least_context(contract)}" + (", or lower model.image_max_pixels"
                    if contract.model.vision else ""))
        )  # fmt: skip
    if given.images_per_prompt and not contract.model.vision:
        found.append(
            problem("model.images_per_prompt", "only for a model with vision", "it would limit nothing", "leave it out")
        )  # fmt: skip
    elif given.images_per_prompt and Lane.VM in settings.lanes:
        found.append(
            problem("model.images_per_prompt", "unset while `lanes` has vm", "llama.cpp has no such limit, so the VM "
                    + "would take pictures that the other lanes refuse", "leave it out: the context is the limit "
                    + "then, on every lane; or leave vm out of `lanes`")
        )  # fmt: skip
    return found


def _home_card(settings: Settings) -> list[str]:
    """One whole context in home's share of its card."""
    serving = _serving(settings)
    if serving is None or not serving[1].slices:
        return []
    number, _ = serving
    own = settings.services[number].gpu_memory
    held = mib(own) / 1024 if own else (mib(settings.home.gpu_memory) - RESERVE_MIB) / 1024
    share = f"services.{number}.gpu_memory gives it" if own else "home.gpu_memory leaves"
    fix = f"set services.{number}.gpu_memory to {{needed}}GiB" if own else ""
    return _card(settings, f"services.{number}.gpu_memory" if own else "", held, share, fix)


def _burst_card(settings: Settings) -> list[str]:
    """The same on burst's L4."""
    if Lane.BURST not in settings.lanes:
        return []
    held = CARD_GIB["l4"] * settings.burst.gpu_memory_utilization
    return _card(settings, "", held, "an L4 with burst.gpu_memory_utilization gives it", "")


def _card(settings: Settings, field: str, held: float, share: str, fix: str) -> list[str]:
    contract = settings.contract
    model, tokens = contract.model, contract.context_tokens
    needed = vllm_gib(model, tokens)
    if needed <= held:
        return []
    spare = int((held - vllm_gib(model, 0)) * GIB / model.shape.cache_bytes) // CONTEXT_STEP * CONTEXT_STEP
    fixes = [fix.format(needed=ceil(needed))] if fix else []
    if spare >= least_context(contract):
        fixes.append(f"set model.context_tokens to {spare}")
    return [
        problem(field or "model.context_tokens", f"weights of {model.weights_bytes / GIB:.1f} GiB + "
                + f"{cache_gib(model, tokens):.1f} for one context of {tokens} tokens + {VLLM_WORK_GIB:g} of work = "
                + f"{needed:.1f} GiB; {share} {held:.1f}", "vLLM would not start",
                ", or ".join(fixes or ["take a smaller model"]))
    ]  # fmt: skip
