"""The services: what entries come to, what is refused and why, the sums on the card, and vLLM's flags."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from components import vllm
from components.burst import container
from components.home.chart import values
from components.settings import Settings, declared_services, service_rules
from components.settings.declared_services import declared
from components.settings.presets import PRESETS
from components.settings.section import SettingsError, mib

ROOT = Path(__file__).parents[3]
Make = Callable[..., Settings]
Entry = dict[str, Any]
LLM: Entry = {"name": "vllm", "preset": "model"}
TTS: Entry = {"name": "tts", "preset": "tts"}
OWN: Entry = {"name": "own", "image": "ghcr.io/a/b:1.2.3", "model": "m", "paths": ["/v1/own"], "gpu_memory": "1GiB"}
FLAGS = frozenset((Path(__file__).parent / "vllm-0.29.0-flags.txt").read_text().split())


def own(**changes: Any) -> Entry:
    """An entry without preset, some of it changed; None removes a key."""
    return {key: value for key, value in {**OWN, **changes}.items() if value is not None}


# --- what an entry comes to -------------------------------------------------------------------------------------------


def test_left_out_the_list_is_the_model_of_every_lane(settings_of: Make) -> None:
    [service] = declared(settings_of(lanes=["home", "vm"]))
    assert (service.name, service.model, service.weights, service.paths) == (
        "vllm",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "Qwen/Qwen2.5-VL-7B-Instruct-AWQ",
        ("/v1",),
    )
    assert (service.slices, service.gpu_memory_mib, service.max_requests) == (1, 12 * 1024, 8)


def test_the_model_alone_runs_on_every_machine(settings_of: Make) -> None:
    chosen = settings_of(home={"nodes": 2}, services=[LLM, own(name="vllm-3")])
    assert [declared_services.replicas(one, chosen) for one in declared(chosen)] == [("vllm", "vllm-2"), ("vllm-3",)]


def test_an_entry_says_what_its_preset_doesn_t(settings_of: Make) -> None:
    entry = {**TTS, "image": "ghcr.io/a/tts:9.9.9", "gpu_memory": "1536MiB", "env": {"A": "1"}, "args": ["--x"]}
    tts = declared(settings_of(services=[LLM, {**entry, "max_requests": 7, "paths": ["/v1/audio/speech"]}]))[1]
    preset = PRESETS["tts"]
    assert (tts.image, tts.gpu_memory_mib, tts.max_requests) == ("ghcr.io/a/tts:9.9.9", 1536, 7)
    assert (tts.model, tts.port, tts.uid, tts.paths) == ("kokoro", preset.port, preset.uid, ("/v1/audio/speech",))
    assert (tts.args, tts.env) == ((*preset.args, "--x"), {**preset.env, "A": "1"})


def test_another_vllm_model_needs_an_image_and_a_name_only(settings_of: Make) -> None:
    entry = own(
        image="docker.io/vllm/vllm-openai:v0.29.0-cu129", model="org/embedder", gpu_memory="6GiB", weights_bytes=2**31
    )
    settings = settings_of(services=[LLM, {**entry, "args": ["--runner", "pooling"]}])
    found = values(declared(settings)[1], settings)
    assert found["command"] == ["vllm", "serve"]
    assert found["args"][0] == "org/embedder"
    assert found["args"][-2:] == ["--runner", "pooling"]
    assert found["args"][found["args"].index("--gpu-memory-utilization") + 1] == "0.25"
    assert found["args"][found["args"].index("--kv-cache-memory-bytes") + 1] == str(6 * 2**30 - 2**31 - 3 * 2**29)
    assert found["user"] == {"uid": 2000}


def test_a_service_without_the_gpu_asks_for_neither_slice_nor_memory(settings_of: Make) -> None:
    service = declared(settings_of(services=[LLM, own(slices=0, gpu_memory=None)]))[1]
    assert (service.slices, service.gpu_memory_mib) == (0, 0)


def page_entries() -> dict[str, Any]:
    page = (ROOT / "docs" / "services.md").read_text()
    [block] = [part for part in page.split("```") if "pilotlight:services" in part]
    return yaml.safe_load(block.removeprefix("yaml\n"))["config"]


def dev_entries() -> dict[str, Any]:
    text = (ROOT / "Pulumi.dev.yaml").read_text().partition("  # pilotlight:services:")
    return yaml.safe_load("".join(text[1:]).replace("  # ", "  "))


@pytest.mark.parametrize(("example", "names"), [
    (page_entries, ["vllm", "speech", "pictures", "embed", "ears"]), (dev_entries, ["vllm", "embed"]),
])  # fmt: skip
def test_the_examples_of_adding_a_service_are_accepted(
    settings_of: Make, example: Callable[[], dict[str, Any]], names: list[str]
) -> None:
    settings = settings_of(services=example()["pilotlight:services"])
    assert [service.name for service in declared(settings)] == names
    with helm_python.Chart.load(ROOT / "charts" / "ai-service") as chart:
        for service in declared(settings):
            chart.validate_schema(values(service, settings))


# --- bad input --------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Entry, tuple[str, ...]]] = {
    "no model": (
        {"services": [LLM, own(model=None)]},
        ("services.1.model: a model's name", "`/v1/models` could not list it", "set `model`"),
    ),
    "no unit": (
        {"services": [{**LLM, "gpu_memory": 9}]},
        ("services.0.gpu_memory: a whole number with its unit, GiB or MiB; it is 9", "dies", "write it as 9GiB"),
    ),
    "wrong unit": ({"services": [{**LLM, "gpu_memory": "9GB"}]}, ("services.0.gpu_memory: a whole number", "9GB")),
    "no whole number": ({"services": [{**LLM, "gpu_memory": "1.5GiB"}]}, ("services.0.gpu_memory: a whole number",)),
    "unknown preset": (
        {"services": [LLM, {"name": "a", "preset": "embedding"}]},
        ("services.1.preset: one of embeddings, image, model, tts; 'embedding' is none", "which program",
         "did you mean `embeddings`?"),
    ),
    "unknown preset, near to nothing": (
        {"services": [LLM, {"name": "a", "preset": "xyz"}]}, ("services.1.preset: one of", "Fix: Or leave `preset`"),
    ),
    "neither preset nor image": (
        {"services": [LLM, {"name": "a", "paths": ["/v1/a"], "model": "m", "slices": 0}]},
        ("services.1: a preset, or image and model", "nothing says what a runs", "add one of the presets"),
    ),
    "home only, and home is off": (
        {"lanes": ["vm"], "services": [LLM, TTS]},
        ("services.1: home is one of `lanes` (vm), for tts lives at home only", "ever answer /v1/audio",
         "add home to `lanes`, or remove the service"),
    ),
    "the same path twice": (
        {"services": [LLM, TTS, own(paths=["/v1/audio"])]},
        ("services: a path stands once, /v1/audio stands more often (tts, own)", "told apart", "longer path"),
    ),
    "nothing for completions": (
        {"services": [TTS]},
        ("services: one of them answers /v1 while `lanes` has home", "nothing serves it", "preset: model"),
    ),
    "completions and more": (
        {"services": [{**LLM, "paths": ["/v1", "/v1/score"]}]},
        ("services.0.paths: /v1 alone for vllm", "at home only", "a service of their own"),
    ),
    "no path": ({"services": [LLM, own(paths=[])]}, ("services.1.paths: at least one path", "nobody could reach own")),
    **{
        f"path {path!r}": ({"services": [LLM, own(paths=[path])]}, ("services.1.paths.0: /v1 or a path under it",))
        for path in ("", "/", "v1/a", "/v2/a", "/v1/", "/v1/a/", "/v1//a", "/v1/A", "/v1/*", "/v1/../a", "/v1/{a}")
    },
    **{
        f"path {path!r}": (
            {"services": [LLM, own(paths=[path])]},
            (f"services.1.paths.0: apart from {taken} answers", "one would get the other's requests", "another path"),
        )
        for path, taken in {
            "/v1/models": "/v1/models, which the gateway",
            "/v1/models/x": "/v1/models, which the gateway",
            "/v1/lanes": "/v1/lanes, which the gateway",
            "/v1/chat": "/v1/chat/completions, which every lane",
            "/v1/completions": "/v1/completions, which every lane",
            "/v1/chat/completions/x": "/v1/chat/completions, which every lane",
        }.items()
    },
    "over the card": (
        {"services": [{**LLM, "gpu_memory": "20GiB"}, {**TTS, "gpu_memory": "4GiB"}]},
        ("services: at most home.gpu_memory in all, they ask for more: vllm 20 GiB + tts 4 GiB + 1 GiB reserve = "
         "25 GiB of 24 GiB, 1 GiB too much", "would find no memory", "lower a `gpu_memory`"),
    ),
    "over the slices": (
        {"home": {"gpu_slices": 2}, "services": [LLM, TTS, OWN]},
        ("services: at most home.gpu_slices (2) slices, they ask for 3", "for ever", "raise home.gpu_slices"),
    ),
    "two slices": ({"services": [{**LLM, "slices": 2}]}, ("services.0.slices: is refused", "no more than 1")),
    "a slice without memory": (
        {"services": [LLM, own(gpu_memory=None)]},
        ("services.1.gpu_memory: set for a service with a slice", "what the others were promised", "like 4GiB"),
    ),
    "memory without a slice": (
        {"services": [LLM, own(slices=0)]},
        ("services.1.gpu_memory: unset for a service without a slice", "never sees the card", "`slices: 1`"),
    ),
    "an image of no version": (
        {"services": [LLM, own(image="ghcr.io/a/b:latest")]},
        ("services.1.image: a full image name with an exact version", "nobody tested"),
    ),
    "another model name on /v1": (
        {"services": [{**LLM, "model": "other"}]},
        ("services.0.model: `model.name` (Qwen/Qwen2.5-VL-7B-Instruct) on the path /v1", "set `model.name`"),
    ),
    "a model twice": (
        {"services": [LLM, TTS, own(model="kokoro")]},
        ("services: a model stands once, kokoro stands more often", "which service they ask"),
    ),
    "a limit of its own on /v1": (
        {"services": [{**LLM, "max_requests": 4}]},
        ("services.0.max_requests: unset for the service on /v1", "set `home.max_requests`"),
    ),
    "a name twice": ({"services": [LLM, TTS, own(name="tts")]}, ("services: a name stands once, tts stands more",)),
    "the name of the model on another machine": (
        {"home": {"nodes": 3}, "services": [LLM, own(name="vllm-3")]},
        ("services.1.name: not vllm-3, which is the model of another machine with home.nodes 3", "installed over the",
         "rename it"),
    ),
    "a name that is taken": ({"services": [LLM, own(name="traefik")]}, ("services.1.name: not traefik",)),
    "no name": ({"services": [{"preset": "tts"}]}, ("services.0.name: is required",)),
    "no host name": ({"services": [LLM, own(name="a_b")]}, ("services.1.name: is refused", "lower case")),
    "vLLM's argument that a setting decides": (
        {"services": [{**LLM, "args": ["--gpu-memory-utilization=0.9"]}]},
        ("services.0.args: without --gpu-memory-utilization", "another value than vLLM", "leave it out"),
    ),
    **{
        f"the same, written {word}": (
            {"services": [{**LLM, "args": [word, "0.9"]}]}, ("services.0.args: without --gpu-memory-utilization",),
        )
        for word in ("--gpu_memory_utilization", "--gpu-memory-util", "--gpu_memory_util=0.9")
    },
    "an argument that the contract decides": (
        {"services": [{**LLM, "args": ["--max-model-len", "4096", "--tool-call-parser=xlam"]}]},
        ("services.0.args: without --max-model-len, --tool-call-parser", "leave it out"),
    ),
    "environment that the contract decides": (
        {"services": [{**LLM, "env": {"VLLM_MAX_N_SEQUENCES": "9", "HF_TOKEN": "x"}}]},
        ("services.0.env: without VLLM_MAX_N_SEQUENCES, which", "the other lanes don't", "leave it out"),
    ),
    "other weights on /v1": (
        {"services": [{**LLM, "weights": "a/b"}]},
        ("services.0.weights: unset for the service on /v1", "under the same name", "set `model.preset`"),
    ),
    "weights for another engine": (
        {"services": [LLM, {**TTS, "weights": "a/b"}]},
        ("services.1.weights: for vLLM's image only", "nothing would read it"),
    ),
    **{
        f"weights {name!r}": ({"services": [{**LLM, "weights": name}]}, ("services.0.weights: is refused", "Hugging"))
        for name in ("", "no repository", "gpt-4", "--api-key", "a/b/c", "https://huggingface.co/a/b")
    },
    "no list": ({"services": {"name": "a"}}, ("services: must be a list",)),
    **{
        f"{field} {value!r}": (
            {"services": [{**LLM, field: value}]}, (f"services.0.{field}: is refused", "kept for it"),
        )
        for field, values in {
            "cpus": (0, -1, 0.05, 0.25, 1000, "two", float("nan")), "memory_gib": (0, -4, 1.5, 5000, "9GiB", "much"),
        }.items()
        for value in values
    },
    **{
        f"home.{field} {value!r}": ({"home": {field: value}}, (f"home.{field}: is refused", "The machine's"))
        for field in ("cpus", "memory_gib") for value in (0, -1, 1.5, 10_000, "many")
    },
    "over the machine's memory": (
        {"home": {"memory_gib": 16}, "services": [LLM, {**TTS, "memory_gib": 6}]},
        ("services: at most home.memory_gib in all, they ask for more: vllm 10 GiB + tts 6 GiB + 2.5 GiB reserve = "
         "18.5 GiB of 16 GiB, 2.5 GiB too much", "would stay Pending", "lower a `memory_gib`"),
    ),
    "over the machine's processors": (
        {"home": {"cpus": 3}, "services": [LLM, {**TTS, "cpus": 0.7}]},
        ("services: at most home.cpus in all, they ask for more: vllm 2 + tts 0.7 + 0.4 reserve = 3.1 of 3, 0.1 too",
         "would stay Pending", "lower a `cpus`"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_by_field_rule_consequence_and_fix(settings_of: Make, case: str) -> None:
    changes, parts = REFUSED[case]
    with pytest.raises(SettingsError) as caught:
        settings_of(**changes)
    assert any(re.search(".*".join(map(re.escape, parts)), problem) for problem in caught.value.problems), caught.value
    for problem in caught.value.problems:
        assert re.fullmatch(r"[a-z][\w.]*: .+\. Consequence: .+\. Fix: .+\.", problem), problem


def nothing(_: Settings) -> list[str]:
    """A group of rules that refuses nothing."""
    return []


@pytest.mark.parametrize(
    ("rule", "case"),
    [
        ("_names", "a name twice"),
        ("_programs", "an image of no version"),
        ("_programs", "an argument that the contract decides"),
        ("_programs", "environment that the contract decides"),
        ("_programs", "other weights on /v1"),
        ("_models", "no model"),
        ("_paths", "the same path twice"),
        ("_lanes", "home only, and home is off"),
        ("_gpu", "over the card"),
        ("_machine", "over the machine's memory"),
        ("_machine", "over the machine's processors"),
    ],
)
def test_each_refusal_comes_from_its_rule(
    settings_of: Make, monkeypatch: pytest.MonkeyPatch, rule: str, case: str
) -> None:
    monkeypatch.setattr(service_rules, rule, nothing)
    settings_of(**REFUSED[case][0])


# --- the card ---------------------------------------------------------------------------------------------------------


def test_all_presets_fit_the_card_together_and_the_sum_is_shown(settings_of: Make) -> None:
    settings = settings_of(services=[{"name": name, "preset": name} for name in PRESETS])
    line = declared_services.gpu_memory(settings).line
    shares = [float(share) for share in re.findall(r"([\d.]+) GiB(?= [+r])", line)]
    assert line.endswith(f"= {sum(shares):g} GiB of 24 GiB, {24 - sum(shares):g} GiB free")
    assert len(shares) == len(PRESETS) + 1


def test_the_reserve_is_counted_to_the_last_mib(settings_of: Make) -> None:
    card = mib("24GiB")
    settings_of(services=[{**LLM, "gpu_memory": f"{card - declared_services.RESERVE_MIB}MiB"}])
    with pytest.raises(SettingsError, match="1 MiB too much"):
        settings_of(services=[{**LLM, "gpu_memory": f"{card - declared_services.RESERVE_MIB + 1}MiB"}])


# --- its machine ------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_the_machine_reaches_the_pod(settings_of: Make) -> None:
    # `pulumi config set --path` keeps a number with a point as text.
    settings = settings_of(services=[{**LLM, "cpus": 1.3, "memory_gib": 12}, TTS, own(cpus="0.5")])
    told = [values(service, settings)["resources"] for service in declared(settings)]
    assert [(one["cpu"], one["memory"]) for one in told] == [("1300m", "12Gi"), ("1000m", "4Gi"), ("500m", "4Gi")]


def test_vllm_keeps_memory_for_its_processes_and_for_the_pictures_that_it_remembers(settings_of: Make) -> None:
    entry = own(image="docker.io/vllm/vllm-openai:v0.29.0-cu129", weights="a/b", weights_bytes=1, gpu_memory="2GiB")
    services = [LLM, {"name": "embed", "preset": "embeddings"}, entry, own(name="other", model="n", paths=["/v1/n"])]
    without = settings_of(lanes=["home"], services=services, model={"vision": False})
    assert [service.memory_gib for service in declared(settings_of(services=services))] == [10, 6, 10, 4]
    assert [service.memory_gib for service in declared(without)] == [6, 6, 10, 4]


def test_all_presets_fit_a_machine_of_32_gb_with_8_processors(settings_of: Make) -> None:
    services = [{"name": name, "preset": name} for name in PRESETS]
    settings = settings_of(services=services, home={"memory_gib": 31, "cpus": 8})
    assert declared_services.memory(settings).line.endswith(" of 31 GiB, 2.5 GiB free")
    assert declared_services.cpus(settings).line.endswith("= 5.4 of 8, 2.6 free")


def test_the_machine_is_counted_to_the_last_gib_and_tenth(settings_of: Make) -> None:
    services = [{**LLM, "memory_gib": 13, "cpus": 3.6}]
    settings_of(services=services, home={"memory_gib": 16, "cpus": 4})
    with pytest.raises(SettingsError, match=r"0\.5 GiB too much"):
        settings_of(services=[{**LLM, "memory_gib": 14}], home={"memory_gib": 16})
    with pytest.raises(SettingsError, match=r"= 4\.1 of 4, 0\.1 too much"):
        settings_of(services=[{**LLM, "cpus": 3.7}], home={"cpus": 4})


def test_a_machine_that_nobody_described_refuses_nothing_and_says_so(settings_of: Make) -> None:
    settings = settings_of(services=[{**LLM, "memory_gib": 4096, "cpus": 256}])
    assert declared_services.memory(settings).line == (
        "vllm 4096 GiB + 2.5 GiB reserve = 4098.5 GiB, not checked: home.memory_gib is not set"
    )
    assert declared_services.cpus(settings).line == (
        "vllm 256 + 0.4 reserve = 256.4, not checked: home.cpus is not set"
    )


def test_a_stack_without_the_lane_home_asks_nothing_of_the_machine(settings_of: Make) -> None:
    settings_of(lanes=["vm"], services=[{**LLM, "memory_gib": 64, "cpus": 64}], home={"memory_gib": 8, "cpus": 2})


# --- vLLM on the card -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["9GiB", "11GiB", "12001MiB", "23GiB"])
def test_vllm_s_share_of_the_card_is_its_memory_and_never_more(settings_of: Make, memory: str) -> None:
    settings = settings_of(services=[{**LLM, "gpu_memory": memory}])
    [service] = declared(settings)
    share = declared_services.utilization(service, settings)
    assert 0 <= mib(memory) - share * mib("24GiB") < 0.001 * mib("24GiB")
    args = values(service, settings)["args"]
    assert args[args.index("--gpu-memory-utilization") + 1] == str(share)


def test_a_bigger_card_makes_the_share_smaller(settings_of: Make) -> None:
    settings = settings_of(home={"gpu_memory": "48GiB"})
    assert declared_services.utilization(declared(settings)[0], settings) == 0.25


def test_each_vllm_on_the_card_is_told_its_cache_and_measures_nothing(settings_of: Make) -> None:
    services = [{**LLM, "gpu_memory": "12GiB"}, {"name": "embed", "preset": "embeddings"}]
    settings = settings_of(services=services)
    told = [values(service, settings)["args"] for service in declared(settings)]
    caches = [int(args[args.index("--kv-cache-memory-bytes") + 1]) for args in told]
    work = 3 * 2**29
    weights = [settings.contract.model.weights_bytes, PRESETS["embeddings"].weights_bytes]
    assert [cache + weight + work for cache, weight in zip(caches, weights, strict=True)] == [12 * 2**30, 7 * 2**29]
    # Two inputs of 4,096 tokens, which vLLM would else refuse to start with.
    assert caches[1] >= 2 * 4096 * 2 * 28 * 8 * 128 * 2


def test_a_preset_with_other_weights_has_another_size(settings_of: Make) -> None:
    other = {"name": "embed", "preset": "embeddings", "weights": "org/other", "gpu_memory": "4GiB"}
    with pytest.raises(SettingsError, match=r"services\.1\.weights_bytes: .*repository org/other"):
        settings_of(services=[LLM, other])
    [_, service] = declared(settings_of(services=[LLM, {**other, "weights_bytes": 2**30}]))
    assert service.kv_cache_bytes == 3 * 2**29


# --- vLLM's flags -----------------------------------------------------------------------------------------------------


def unknown_flags(arguments: list[str]) -> list[str]:
    """Flags that vLLM 0.29.0 doesn't have; values aren't looked at."""
    flags = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    assert flags
    return [flag for flag in flags if flag not in FLAGS]


def vllm_commands(settings_of: Make) -> dict[str, list[str]]:
    entries = [{"name": name, "preset": name} for name in PRESETS]
    settings = settings_of(services=entries, lanes=["home", "burst", "vm"])
    found = {s.name: values(s, settings)["args"] for s in declared(settings) if s.is_vllm}
    return {**found, "burst": container.arguments(settings)}


def test_every_flag_is_one_of_vllm_s_at_the_pinned_version(settings_of: Make) -> None:
    commands = vllm_commands(settings_of)
    assert set(commands) == {"model", "embeddings", "burst"}
    for name, arguments in commands.items():
        assert unknown_flags(arguments) == [], name
    assert vllm.OWNED | vllm.CONTRACT <= FLAGS
    # Cut short, an owned flag is no other flag's name, which would be refused with it.
    for decided, contract in ((vllm.OWNED, False), (vllm.OWNED | vllm.CONTRACT, True)):
        assert [flag for flag in FLAGS - decided if vllm.owned([flag], contract=contract)] == []
    images = {preset.image for preset in PRESETS.values() if preset.image.startswith(vllm.REPOSITORY)}
    assert {image.partition(":v")[2].partition("-")[0] for image in images} == {"0.29.0"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("--max-model-len", "--max-model-length"),
        ("--gpu-memory-utilization", "--gpu-memory-utilisation"),
        ("--runner", "--task"),
        ("--shutdown-timeout", "--graceful-shutdown-timeout"),
        ("--disable-access-log-for-endpoints", "--disable-access-log-for-endpoint"),
    ],
)
def test_a_near_miss_of_a_flag_is_seen(settings_of: Make, right: str, wrong: str) -> None:
    arguments = vllm_commands(settings_of)["embeddings"]
    assert right in arguments
    assert unknown_flags([wrong if word == right else word for word in arguments]) == [wrong]


def test_json_arguments_are_json(settings_of: Make) -> None:
    for arguments in vllm_commands(settings_of).values():
        for word in arguments:
            if word.startswith('{"'):
                json.loads(word)
