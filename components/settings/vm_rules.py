"""Rules of the VM lane, checked before any resource exists: its numbers, its machine, its card, its memory.

Owns: the rules that hold between `vm`'s values, the stack's region, and the facts about machines (`machines`). Does not
own: the facts, the choice of the default machine (`machines.choice`), the form of a refusal (`section`).
"""

from math import ceil

from components.machines.choice import BUDGET_USD, CARD_MACHINE, Choice, known, offered
from components.machines.memory import GIB, cache_gib, files_gib, held_gib, needed_gib, work_gib
from components.machines.names import BUILT_IN, shape
from components.machines.prices import price, regions
from components.machines.speeds import MACHINES, machine
from components.machines.zones import CARD_ZONES, zones
from components.settings.model import CONTEXT_STEP, least_context
from components.settings.section import Lane, problem
from components.settings.stack import Settings


def broken(settings: Settings) -> list[str]:
    """Every rule the settings break, a `problem` line each."""
    found = _numbers(settings)
    if Lane.VM in settings.lanes:
        # One reason is enough: a card in the wrong machine has no row in the table either.
        found += _card(settings) or _machine(settings) or _memory(settings)
    return found


def _numbers(settings: Settings) -> list[str]:
    """Values that don't depend on the machine."""
    found: list[str] = []
    vm = settings.vm
    if vm.max_replicas is not None and vm.max_replicas < vm.replicas:
        found.append(
            problem("vm.max_replicas", f"at least replicas ({vm.replicas})", "the group could not hold the machines "
                    + "that always run", "raise it, or leave it out")
        )  # fmt: skip
    if not settings.zone.startswith(f"{settings.region}-"):
        found.append(
            problem("vm.zone", f"a zone of gcp:region ({settings.region})", "the VM could not stand in the gateway's "
                    + "network, and Google Cloud would say so half-way", f"leave it out, or set {settings.region}-b")
        )  # fmt: skip
    return found


def _card(settings: Settings) -> list[str]:
    """A card where there is one, in a machine that takes it."""
    vm, region = settings.vm, settings.region
    built_in = BUILT_IN.get(vm.machine_type.partition("-")[0])
    if built_in and vm.gpu != built_in:
        return [
            problem("vm.gpu", f"{built_in}, the card that a {vm.machine_type} has, it is {vm.gpu or 'null'}",
                    "no driver would be installed for the card, which costs most of the month",
                    f"set vm.gpu to {built_in}, or vm.machine_type to another")
        ]  # fmt: skip
    if vm.gpu is None:
        return []
    takes = [row.name for row in MACHINES if row.gpu == vm.gpu]
    if vm.machine_type and vm.machine_type not in takes:
        return [
            problem("vm.machine_type", f"one that takes vm.gpu {vm.gpu} ({', '.join(takes)}), it is {vm.machine_type}",
                    "Google Cloud would refuse the machine half-way",
                    f"leave it out, which means {CARD_MACHINE[vm.gpu]}, or set vm.gpu to null")
        ]  # fmt: skip
    there = zones(vm.gpu, region)
    if not there:
        return [
            problem("vm.gpu", f"a card of gcp:region, {region} has no {vm.gpu} as far as is known here",
                    "the machine could stand nowhere", "set vm.gpu to null, or gcp:region to one of "
                    + ", ".join(CARD_ZONES[vm.gpu]))
        ]  # fmt: skip
    if vm.zone and vm.zone not in there:
        return [
            problem("vm.zone", f"a zone with {vm.gpu}: {', '.join(there)}; it is {vm.zone}",
                    "Google Cloud would refuse the machine half-way", f"leave it out, or set {there[0]}")
        ]  # fmt: skip
    return []


def _machine(settings: Settings) -> list[str]:
    """A machine that is known, and that the region has."""
    vm, region = settings.vm, settings.region
    if not vm.machine_type and not vm.gpu:
        return _default(settings)
    name = vm.machine_type or CARD_MACHINE[str(vm.gpu)]
    told = shape(name)
    if told is not None and told.is_arm:
        return [
            problem("vm.machine_type", f"an x86 machine, {name} is ARM", "it would not start: the system image is x86",
                    "leave it out, or set another")
        ]  # fmt: skip
    row = machine(name, vm.gpu or "")
    if row is None and vm.speed is None:
        return [
            problem("vm.machine_type", f"one of the table in docs/machines.md, or with vm.speed beside it; {name} is "
                    + "not in the table", "nothing could tell which lane answers sooner", "measure it with `make "
                    + "bench-vm` and set vm.speed, or take one of " + _next_best(settings))
        ]  # fmt: skip
    if row is None and told is None:
        return [
            problem("vm.machine_type", f"a name that tells the size, like c3-standard-8; {name} doesn't",
                    "the model server could not be told its threads and memory", f"take one of {_next_best(settings)}")
        ]  # fmt: skip
    if row is None or not known(region):
        return []
    there = price(row, region)
    if there is None or (vm.spot and there.spot is None):
        return [
            problem("vm.machine_type" if vm.machine_type else "vm.gpu",
                    f"a machine that {region} has{' as spot' if there else ''}; the catalogue has no price for "
                    + f"{row.title} there", "Google Cloud would refuse it half-way",
                    f"take one of {_next_best(settings)}")
        ]  # fmt: skip
    return []


def _default(settings: Settings) -> list[str]:
    """Whether the default machine can be chosen."""
    vm, region = settings.vm, settings.region
    if vm.speed:
        return [
            problem("vm.speed", "only with vm.machine_type", "the default machine may become another, and the speed "
                    + "would be the old one's", "name the machine that was measured, or leave vm.speed out")
        ]  # fmt: skip
    if not known(region):
        return [
            problem("vm.machine_type", f"required in {region}: prices are known here for {', '.join(regions())} only",
                    "no default could be chosen by price and speed",
                    f"set it to a type of docs/machines.md that {region} has")
        ]  # fmt: skip
    if settings.vm_choice is None:
        kind = "spot" if vm.spot else "on-demand"
        return [
            problem("vm.machine_type", f"required with vm.spot {str(vm.spot).lower()} in {region}: no {kind} machine "
                    + f"costs at most {BUDGET_USD:g} USD a month there", "the default would be dearer than is said",
                    f"leave vm.spot out, or name one of {_next_best(settings)}")
        ]  # fmt: skip
    return []


def _next_best(settings: Settings) -> str:
    """The region's machines, those with a card only if one is asked for; the fastest first, with prices a month."""
    vm, region = settings.vm, settings.region
    if not known(region):
        return ", ".join(row.title for row in MACHINES if bool(row.gpu) == bool(vm.gpu))
    rows = [row for row in offered(region, settings.contract) if bool(row.gpu) == bool(vm.gpu)]
    priced = [(row.title, Choice(row, bool(vm.spot)).month_usd(region)) for row in rows]
    return ", ".join(f"{title} ({usd:.0f} USD)" for title, usd in priced if usd is not None)


def _memory(settings: Settings) -> list[str]:
    """Room for the model's files and the context of every slot, and for the files on their disk."""
    vm, contract, row = settings.vm, settings.contract, settings.vm_machine
    if row is None or contract.model.gguf is None:
        return []
    model, tokens = contract.model, contract.context_tokens * vm.max_requests
    if (files := files_gib(model)) > vm.disk_gib:
        return [
            problem("vm.disk_gib", f"room for the model's files, {files:.1f} GiB, it is {vm.disk_gib}", "no machine "
                    + "would ever have them whole, and the lane would not come up", f"set it to {ceil(files) + 1}")
        ]  # fmt: skip
    needed, held = needed_gib(row, model, tokens), held_gib(row)
    if needed <= held:
        return []
    spare = int((held - needed) * GIB / model.shape.cache_bytes) + tokens
    room = spare // vm.max_requests // CONTEXT_STEP * CONTEXT_STEP
    where = f"the {row.gpu}" if row.gpu else row.name
    fixes = [f"set model.context_tokens to {room}"] if room >= least_context(contract) else []
    if vm.max_requests > 1:
        fixes.append("lower vm.max_requests")
    if not row.gpu or row.gpu == "t4":
        fixes.append("set vm.gpu to l4" if row.gpu else "set vm.machine_type to one with more memory")
    return [
        problem("model.context_tokens", f"{contract.context_tokens} tokens in each of the VM's {vm.max_requests} slots "
                + f"take {cache_gib(model, tokens):.1f} GiB beside {files:.1f} of files and "
                + f"{work_gib(row, model):.1f} of work, {needed:.1f} GiB of memory in all; {where} has {held:g}",
                "the model server would be killed in the middle of answers",
                ", or ".join(fixes or ["take a smaller model"]))
    ]  # fmt: skip
