"""The model: one line changes it on every lane, an own one by the same fields; what can't work is refused."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from components import vllm
from components.burst import container, weights
from components.home.chart import values
from components.machines.memory import CARD_GIB
from components.models.catalogue import PRESETS
from components.models.shape import File, Model
from components.settings import Settings, model_rules, vm_rules
from components.settings.declared_services import declared
from components.settings.section import SettingsError
from components.vm import boot, server
from tests.unit.own_model import GGUF, PROJECTOR, REVISION, SHAPE, VISION, own_model

Make = Callable[..., Settings]
ALL = ["home", "burst", "vm"]
FAST = {"prompt": 90, "picture": 80, "answer": 20}
SMALL = {"machine_type": "c3-highcpu-8"}
EARS = {
    "name": "ears", "image": "registry.example/ears:1.2.3", "model": "Whisper", "paths": ["/v1/audio"], "slices": 0,
}  # fmt: skip


def told(words: list[str]) -> dict[str, str]:
    """The arguments of a command line that have a value."""
    return {name: value for name, value in zip(words, [*words[1:], "--"], strict=True) if name.startswith("--")}


def file_of(given: dict[str, Any]) -> File:
    return File(**given)


def lanes(settings: Settings) -> dict[str, list[str]]:
    """The command line of each lane's server."""
    home = values(declared(settings)[0], settings)["args"]
    return {"home": home, "burst": container.arguments(settings), "vm": server.arguments(settings)}


# --- one line changes the model on every lane -------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_one_line_changes_the_model_on_every_lane(settings_of: Make, preset: str) -> None:
    settings, model = settings_of(lanes=ALL, model={"preset": preset}), PRESETS[preset]
    found = {lane: told(words) for lane, words in lanes(settings).items()}
    assert found["home"]["--served-model-name"] == found["burst"]["--served-model-name"] == model.name
    assert found["vm"]["--alias"] == model.name
    assert model.gguf
    assert (lanes(settings)["home"][0], found["home"]["--revision"]) == (model.weights, model.revision)
    assert lanes(settings)["burst"][0] == f"/weights/{model.weights}/{model.revision}"
    assert weights.arguments(settings)[1:3] == [model.weights, model.revision]
    assert found["vm"]["--model"] == f"/models/{model.gguf.filename}"
    files = [model.gguf, *([model.projector] if model.projector else [])]
    boots = boot.user_data(settings)
    assert [file.sha256 in boots and file.url.replace("%", "%%") in boots for file in files] == [True] * len(files)
    assert ("--mmproj" in found["vm"]) == bool(model.vision)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("context", [4096, 16384])
def test_what_one_lane_takes_all_take(settings_of: Make, preset: str, context: int) -> None:
    model = {"preset": preset, "context_tokens": context}
    settings = settings_of(lanes=ALL, model=model, vm={"max_requests": 3})
    found = {lane: told(words) for lane, words in lanes(settings).items()}
    assert found["home"]["--max-model-len"] == found["burst"]["--max-model-len"] == str(context)
    assert int(found["vm"]["--ctx-size"]) // int(found["vm"]["--parallel"]) == context
    for flag in ("--limit-mm-per-prompt", "--mm-processor-kwargs", "--tool-call-parser", "--enable-auto-tool-choice",
                 "--chat-template"):  # fmt: skip
        assert found["home"].get(flag) == found["burst"].get(flag), flag
    assert found["vm"].get("--chat-template") == found["home"].get("--chat-template")
    # As many pictures as the context holds of the smallest: llama.cpp has no other limit.
    images = json.loads(found["burst"]["--limit-mm-per-prompt"])
    assert images == {"image": context // 8 if PRESETS[preset].vision else 0, "video": 0}
    for environment in (container.environment(settings), values(declared(settings)[0], settings)["env"]):
        assert environment["VLLM_MAX_N_SEQUENCES"] == found["vm"]["--parallel"] == "3"
        assert environment["VLLM_SKIP_MODEL_NAME_VALIDATION"] == "1"


def test_without_the_vm_vllm_s_own_limits_hold(settings_of: Make) -> None:
    settings = settings_of(lanes=["home", "burst"], model={"images_per_prompt": 2})
    assert "VLLM_MAX_N_SEQUENCES" not in container.environment(settings)
    for lane in ("home", "burst"):
        assert json.loads(told(lanes(settings)[lane])["--limit-mm-per-prompt"]) == {"image": 2, "video": 0}


def test_a_model_that_thinks_has_a_parser_for_it_and_others_none(settings_of: Make) -> None:
    thinking = lanes(settings_of(lanes=ALL, model={"preset": "qwen3-4b", "reasoning_parser": "qwen3"}))
    assert told(thinking["home"])["--reasoning-parser"] == told(thinking["burst"])["--reasoning-parser"] == "qwen3"
    assert all("--reasoning-parser" not in words for words in lanes(settings_of(lanes=ALL)).values())
    without_tools = lanes(settings_of(lanes=["home", "burst"], model={"tool_parser": ""}))
    assert not any(
        word.startswith("--") and "tool" in word for words in list(without_tools.values())[:2] for word in words
    )


def test_another_service_of_vllm_s_keeps_its_own_limits(settings_of: Make) -> None:
    services = [{"name": "vllm", "preset": "model"}, {"name": "embed", "preset": "embeddings"}]
    settings = settings_of(services=services)
    embed = values(declared(settings)[1], settings)
    assert told(embed["args"])["--max-model-len"] == "4096"
    assert "--limit-mm-per-prompt" not in embed["args"]
    assert "VLLM_SKIP_MODEL_NAME_VALIDATION" not in embed["env"]


@pytest.mark.parametrize(
    ("model", "share"),
    [
        ({"preset": "qwen2.5-vl-7b"}, 12),
        ({"preset": "qwen2.5-vl-3b"}, 10),
        ({"preset": "qwen3-vl-4b"}, 12),
        ({"preset": "qwen3-4b"}, 11),
        # One whole context is more than the usual cache.
        ({"preset": "qwen3-4b", "context_tokens": 65_536}, 16),
    ],
    ids=json.dumps,
)
def test_home_s_share_follows_from_the_model(settings_of: Make, model: dict[str, Any], share: int) -> None:
    assert declared(settings_of(lanes=["home"], model=model))[0].gpu_memory_mib == share * 1024
    own = [{"name": "vllm", "preset": "model", "gpu_memory": "22GiB"}]
    assert declared(settings_of(lanes=["home"], model=model, services=own))[0].gpu_memory_mib == 22 * 1024


# --- an own model -----------------------------------------------------------------------------------------------------


def test_an_own_model_is_declared_by_the_same_fields(settings_of: Make) -> None:
    model = settings_of(lanes=ALL, model=own_model(**VISION)).contract.model
    assert (model.name, model.weights, model.revision, model.weights_bytes) == ("some/name", "a/b", REVISION, 4 * 10**9)
    assert (model.gguf, model.projector) == (file_of(GGUF), file_of(PROJECTOR))
    assert (model.tool_parser, model.reasoning_parser, model.licence) == ("hermes", "", "")
    assert model.vision
    assert (model.vision.side, model.shape.layers, model.shape.cache_bytes) == (28, 36, 36_864)


def test_over_a_preset_only_what_is_said_changes(settings_of: Make) -> None:
    base = PRESETS["qwen3-vl-4b"]
    changes = {"preset": "qwen3-vl-4b", "weights": "a/b", "revision": REVISION, "weights_bytes": 5 * 10**9}
    model = settings_of(lanes=ALL, model=changes).contract.model
    assert (model.name, model.gguf, model.projector, model.shape) == (base.name, base.gguf, base.projector, base.shape)
    assert (model.weights, model.revision, model.weights_bytes) == ("a/b", REVISION, 5 * 10**9)


def test_a_name_left_out_is_the_repository_s(settings_of: Make) -> None:
    assert settings_of(lanes=ALL, model=own_model(name=None)).contract.model.name == "a/b"


def test_a_template_of_one_s_own_goes_to_both_engines_and_an_empty_one_is_the_weights_(settings_of: Make) -> None:
    text = "{%- for message in messages -%}{{ message.content }}{%- endfor -%}"
    words = lanes(settings_of(lanes=ALL, model=own_model(chat_template=text)))
    assert [told(line)["--chat-template"] for line in words.values()] == [text] * 3
    for model in (own_model(), {"chat_template": ""}, {"preset": "qwen3-vl-4b"}):
        assert all("--chat-template" not in line for line in lanes(settings_of(lanes=ALL, model=model)).values())


def test_vision_can_be_switched_off(settings_of: Make) -> None:
    words = lanes(settings_of(lanes=ALL, model={"vision": False}))
    assert "--mmproj" not in words["vm"]
    for lane in ("home", "burst"):
        assert json.loads(told(words[lane])["--limit-mm-per-prompt"]) == {"image": 0, "video": 0}
        assert "--mm-processor-kwargs" not in words[lane]


def test_an_alias_changes_no_lane(settings_of: Make) -> None:
    """Each answers to any name. Told several, llama.cpp would call itself by the first of them in the alphabet."""
    plain, named = (settings_of(lanes=ALL, model={"aliases": aliases}) for aliases in ([], ["gpt-4o", "a/first"]))
    assert lanes(named) == lanes(plain)
    assert boot.user_data(named) == boot.user_data(plain)


# --- bad input --------------------------------------------------------------------------------------------------------

Case = tuple[dict[str, Any], tuple[str, ...]]
REFUSED: dict[str, Case] = {
    "unknown preset": (
        {"model": {"preset": "qwen3-vl-8b"}},
        ("model.preset: one of qwen2.5-vl-7b, qwen2.5-vl-3b, qwen3-vl-4b, qwen3-4b; 'qwen3-vl-8b' is none",
         "which weights", "did you mean `qwen3-vl-4b`? Or set `preset` to null"),
    ),
    "unknown preset, near to nothing": ({"model": {"preset": "xyz"}}, ("model.preset: one of", "Fix: Or set `preset`")),
    **{
        f"name {name!r}": ({"model": {"name": name}}, ("model.name: is refused", "clients send as `model`"))
        for name in ("", " ", "a b", "a*", "a/../b", "/a", "a/", "a?b", "{env.X}", "-a", "a,b", "a" * 129)
    },
    **{
        f"alias {name!r}": ({"model": {"aliases": ["gpt-4o", name]}}, ("model.aliases.1: is refused", "`gpt-4o`"))
        for name in ("", "a b", "a*", "a/../b", "{env.X}", "a,b", "a" * 129)
    },
    "aliases without brackets": ({"model": {"aliases": "gpt-4o"}}, ("model.aliases: must be a list",)),
    "an alias that is the model's name": (
        {"model": {"aliases": ["qwen/qwen2.5-vl-7b-instruct"]}},
        ("model.aliases.0: a name of its own, qwen/qwen2.5-vl-7b-instruct is model.name", "twice", "leave it out"),
    ),
    "an alias that is a service's model": (
        {"model": {"aliases": ["whisper"]}, "services": [{"name": "vllm", "preset": "model"}, EARS]},
        ("model.aliases.0: a name of its own, whisper is the model of ears", "could not tell which they ask"),
    ),
    "an alias twice": (
        {"model": {"aliases": ["gpt-4o", "GPT-4o"]}},
        ("model.aliases.1: a name of its own, GPT-4o is model.aliases.0", "name another"),
    ),
    **{
        f"weights {name!r}": ({"model": {"weights": name}}, ("model.weights: is refused", "Hugging Face"))
        for name in ("", "gpt-4", "../..", "--api-key", "a/b/c", "https://huggingface.co/a/b")
    },
    "revision that is a branch": ({"model": {"revision": "main"}}, ("model.revision: is refused", "Commit")),
    "weights without their commit": (
        {"model": {"weights": "a/b", "weights_bytes": 9}},
        ("model.revision: required of model.preset qwen2.5-vl-7b", "could not load", "huggingface.co/a/b/commits/main"),
    ),
    "weights without their size": (
        {"model": {"weights": "a/b", "revision": REVISION}},
        ("model.weights_bytes: required of model.preset qwen2.5-vl-7b", "whether it fits", ".safetensors"),
    ),
    **{
        f"GGUF at {url}": ({"model": {"gguf": GGUF | {"url": url}}}, ("model.gguf.url: is refused", "https"))
        for url in (
            "http://models.example/b.gguf",
            "https://models.example/b.gguf?download=true",
            "https://user:password@models.example/b.gguf",
            "https://models.example/..",
            "https://models.example/.gguf",
            "https://models.example/b.safetensors",
            "https://models.example/$HOME/b.gguf",
            "https://models.example/'a/b.gguf",
            "https://models.example/a b.gguf",
            "https://models.example/b.gguf\n",
        )
    },
    "a sum in capitals": (
        {"model": {"gguf": GGUF | {"sha256": "A" * 64}}}, ("model.gguf.sha256: is refused", "never served"),
    ),
    "a short sum": ({"model": {"gguf": GGUF | {"sha256": "a" * 63}}}, ("model.gguf.sha256: is refused",)),
    "no sum": ({"model": {"gguf": {"url": GGUF["url"], "bytes": 1}}}, ("model.gguf.sha256: is required",)),
    "no size": ({"model": {"gguf": {"url": GGUF["url"], "sha256": "a" * 64}}}, ("model.gguf.bytes: is required",)),
    "a projector of the model's name": (
        {"model": {"projector": PROJECTOR | {"url": "https://else.example/Qwen_Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf"}}},
        ("model.projector.url: a file name of its own", "overwrite", "name another file"),
    ),
    # an own model
    **{
        f"own model without {field}": (
            {"model": own_model(**{field: None})},
            (f"model.{field}: required of an own model (model.preset: null), on the lanes home, burst, vm", fix),
        )
        for field, fix in (
            ("shape", "config.json"),
            ("weights", "name its repository"),
            ("revision", "set the commit"),
            ("weights_bytes", "add up the sizes"),
            ("gguf", "give url, sha256 and bytes"),
        )
    },
    "own model without a name": (
        {"model": own_model(name=None, weights=None)}, ("model.name: required of an own model", "how clients name it"),
    ),
    "own model without tools": (
        {"model": own_model(tool_parser=None)},
        ("model.tool_parser: required while `lanes` has vm and home and burst", "taken by the VM and refused",
         "like hermes for Qwen"),
    ),
    "vision without a projector": (
        {"model": own_model(**VISION | {"projector": None})},
        ("model.projector: required of a model with vision while `lanes` has vm", "500 to every picture", "mmproj"),
    ),
    "vision without the size of a token": (
        {"model": own_model(**VISION | {"picture_side": None})},
        ("model.picture_side: required with model.vision", "how many tokens", "28 or 32"),
    ),
    "a projector without vision": (
        {"model": own_model(projector=PROJECTOR)},
        ("model.projector: only for a model with vision", "the other lanes refuse", "set model.vision to true"),
    ),
    "the preset's projector replaced, vision off": (
        {"model": {"vision": False, "projector": PROJECTOR}}, ("model.projector: only for a model with vision",),
    ),
    "unknown tool parser": (
        {"model": {"tool_parser": "hermess"}},
        ("model.tool_parser: a parser of vLLM 0.29.0, 'hermess' is none", "end at its start", "did you mean `hermes`?"),
    ),
    "unknown reasoning parser": (
        {"model": {"reasoning_parser": "qwen"}},
        ("model.reasoning_parser: a parser of vLLM 0.29.0", "did you mean `qwen3`?", "Known: cohere_command3"),
    ),
    **{
        f"template {text!r}": (
            {"model": {"chat_template": text}}, ("model.chat_template: is refused", "one line without single quotes"),
        )
        for text in ("{{ a }}\n", "{{ 'a' }}")
    },
    # limits
    "a context that is no multiple": ({"model": {"context_tokens": 5000}}, ("model.context_tokens: is refused", "256")),
    "a context of nothing": ({"model": {"context_tokens": 512}}, ("model.context_tokens: is refused", "1024")),
    "more context than the model was made for": (
        {"lanes": ["vm"], "model": {"context_tokens": 131_072}},
        ("model.context_tokens: at most 128000, what Qwen/Qwen2.5-VL-7B-Instruct was made for, is 131072",
         "would not start", "set it to 128000 or less"),
    ),
    "a context for no picture": (
        {"model": {"context_tokens": 1024}},
        ("model.context_tokens: at least 1280 (752 of a picture + 300 of a question + 150 of an answer tokens), is",
         "fit on no lane", "set it to 1280, or lower model.image_max_pixels"),
    ),
    "pictures for no context": (
        {"model": {"image_max_pixels": 16_000_000}}, ("model.context_tokens: at least 20992 (20408 of a picture",),
    ),
    "fewer pictures than the VM takes": (
        {"model": {"images_per_prompt": 2}},
        ("model.images_per_prompt: unset while `lanes` has vm", "llama.cpp has no such limit", "leave vm out"),
    ),
    "pictures of a model that sees none": (
        {"lanes": ["home"], "model": {"preset": "qwen3-4b", "images_per_prompt": 2}},
        ("model.images_per_prompt: only for a model with vision", "limit nothing"),
    ),
    # cards and machines
    "a share too small": (
        {"services": [{"name": "vllm", "preset": "model", "gpu_memory": "8GiB"}]},
        ("services.0.gpu_memory: weights of 6.4 GiB + 0.9 for one context of 16384 tokens + 1.5 of work = 8.8 GiB; "
         "services.0.gpu_memory gives it 8.0", "would not start", "set services.0.gpu_memory to 9GiB."),
    ),
    "a card too small": (
        {"lanes": ["home"], "home": {"gpu_memory": "12GiB"}, "model": {"context_tokens": 102_400}},
        ("model.context_tokens: weights of 6.4 GiB + 5.5 for one context of 102400 tokens + 1.5 of work = 13.4 GiB; "
         "home.gpu_memory leaves 11.0", "would not start", "set model.context_tokens to"),
    ),
    "an L4 too small": (
        {"lanes": ["burst"], "model": {"preset": "qwen3-vl-4b", "context_tokens": 131_072}},
        ("model.context_tokens: weights of 5.6 GiB + 18.0 for one context of 131072 tokens + 1.5 of work = 25.1 GiB; "
         "an L4 with burst.gpu_memory_utilization gives it 20.2", "would not start",
         "set model.context_tokens to 95488"),
    ),
    "a VM too small": (
        {"lanes": ["vm"], "vm": SMALL, "model": {"context_tokens": 65_536}},
        ("model.context_tokens: 65536 tokens in each of the VM's 2 slots take 7.0 GiB beside 5.2 of files and 4.7 of "
         "work, 16.9 GiB of memory in all; c3-highcpu-8 has 16", "would be killed",
         "set model.context_tokens to 57344, or lower vm.max_requests, or set vm.machine_type to one with more"),
    ),
    "a T4 too small": (
        {"lanes": ["vm"], "vm": {"gpu": "t4", "max_requests": 1}, "model": {"preset": "qwen3-vl-4b",
                                                                         "context_tokens": 100_352}},
        ("the VM's 1 slots take 13.8 GiB beside 2.7", "the t4 has 15", "or set vm.gpu to l4"),
    ),
    "an own machine too small": (
        {"lanes": ["vm"], "vm": {"machine_type": "c3-highcpu-4", "speed": FAST}},
        ("c3-highcpu-4 has 8", "Fix: lower vm.max_requests, or set vm.machine_type to one with more memory"),
    ),
    "a disk too small": (
        {"lanes": ["vm"], "vm": {"disk_gib": 10}, "model": own_model(gguf=GGUF | {"bytes": 12 * 2**30})},
        ("vm.disk_gib: room for the model's files, 12.0 GiB, it is 10", "would not come up", "set it to 13"),
    ),
}  # fmt: skip


def with_lanes(changes: dict[str, Any]) -> dict[str, Any]:
    return {"lanes": ALL} | changes


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_work_is_refused_by_name_rule_consequence_and_fix(settings_of: Make, case: str) -> None:
    changes, parts = REFUSED[case]
    with pytest.raises(SettingsError) as caught:
        settings_of(**with_lanes(changes))
    assert any(re.search(".*".join(map(re.escape, parts)), line) for line in caught.value.problems), caught.value
    for line in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", line), line


ACCEPTED: list[dict[str, Any]] = [
    *({"model": {"preset": preset}} for preset in PRESETS),
    {"model": {"name": "qwen2.5:7b"}},
    {"model": {"name": "Org/Model-1_0"}},
    {"model": own_model()},
    {"model": own_model(**VISION)},
    {"model": own_model(gguf=GGUF | {"url": "https://models.example:8443/with%20blank/b.gguf"})},
    {"model": {"aliases": ["gpt-4o", "openai/gpt-4o", "gpt-4o:latest", "qwen2.5-vl-7b"]}},
    # The preset's name, where the model has another.
    {"model": {"name": "robot", "aliases": ["Qwen/Qwen2.5-VL-7B-Instruct"]}},
    # What no declared lane needs may be missing.
    {"lanes": ["vm"], "model": own_model(weights=None, revision=None, weights_bytes=None, tool_parser=None)},
    {"lanes": ["home"], "model": own_model(gguf=None, tool_parser=None)},
    {"lanes": ["home"], "model": own_model(gguf=None, **VISION | {"projector": None})},
    {"model": {"context_tokens": 1280}},
    {"model": {"image_max_pixels": 65_536, "context_tokens": 1024}},
    {"lanes": ["home", "burst"], "model": {"images_per_prompt": 2}},
    {"services": [{"name": "vllm", "preset": "model", "gpu_memory": "9GiB"}]},
    # Numbers in the fixes above.
    {"lanes": ["vm"], "vm": SMALL, "model": {"context_tokens": 57_344}},
    {"lanes": ["burst"], "model": {"preset": "qwen3-vl-4b", "context_tokens": 95_488}},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=[json.dumps(changes)[:70] for changes in ACCEPTED])
def test_what_works_is_not_refused(settings_of: Make, changes: dict[str, Any]) -> None:
    settings_of(**with_lanes(changes))


@pytest.mark.parametrize("changes", ACCEPTED[-2:], ids=["vm", "burst"])
def test_the_number_of_a_fix_is_the_largest(settings_of: Make, changes: dict[str, Any]) -> None:
    model = changes["model"]
    with pytest.raises(SettingsError):
        settings_of(**with_lanes(changes | {"model": model | {"context_tokens": model["context_tokens"] + 256}}))


# --- planted mistakes: a rule that is taken away lets the value through -----------------------------------------------


def nothing(_: Settings) -> list[str]:
    """A group of rules that refuses nothing."""
    return []


@pytest.mark.parametrize(
    ("rule", "case"),
    [
        ("_declared", "own model without shape"),
        ("_declared", "weights without their commit"),
        ("_aliases", "an alias that is the model's name"),
        ("_aliases", "an alias that is a service's model"),
        ("_aliases", "an alias twice"),
        ("_parsers", "unknown tool parser"),
        ("_parsers", "own model without tools"),
        ("_vision", "vision without a projector"),
        ("_vision", "a projector without vision"),
        ("_vision", "a projector of the model's name"),
        ("_limits", "more context than the model was made for"),
        ("_limits", "a context for no picture"),
        ("_limits", "fewer pictures than the VM takes"),
        ("_home_card", "a share too small"),
        ("_home_card", "a card too small"),
        ("_burst_card", "an L4 too small"),
    ],
)
def test_each_refusal_comes_from_its_rule(
    settings_of: Make, monkeypatch: pytest.MonkeyPatch, rule: str, case: str
) -> None:
    monkeypatch.setattr(model_rules, rule, nothing)
    if case == "a card too small":  # the sum of all services on the card says it, too
        with pytest.raises(SettingsError, match=r"^(?!.*model\.context_tokens)"):
            settings_of(**with_lanes(REFUSED[case][0]))
        return
    settings_of(**with_lanes(REFUSED[case][0]))


@pytest.mark.parametrize("case", ["a VM too small", "a T4 too small", "an own machine too small", "a disk too small"])
def test_each_refusal_of_the_vm_s_memory_comes_from_its_rule(
    settings_of: Make, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(vm_rules, "_memory", nothing)
    settings_of(**with_lanes(REFUSED[case][0]))


def test_a_parser_is_known_by_name_alone() -> None:
    assert "hermes" in vllm.TOOL_PARSERS
    assert "hermes" not in vllm.REASONING_PARSERS
    for names in (vllm.TOOL_PARSERS, vllm.REASONING_PARSERS):
        assert list(names) == sorted(set(names))


def test_the_shape_decides_and_not_the_parameters(settings_of: Make) -> None:
    """A model of half the parameters with more heads takes more cache than the default one."""

    def fits(kv_heads: int) -> bool:
        model = own_model(shape=SHAPE | {"kv_heads": kv_heads}, context_tokens=32_768)
        try:
            settings_of(lanes=["burst"], model=model)
        except SettingsError:
            return False
        return True

    assert CARD_GIB["l4"] == 22.5
    assert [fits(kv_heads) for kv_heads in (2, 8, 32)] == [True, True, False]


def test_a_model_is_frozen(settings_of: Make) -> None:
    model: Model = settings_of().contract.model
    with pytest.raises(AttributeError):
        model.name = "x"  # pyright: ignore[reportAttributeAccessIssue]
