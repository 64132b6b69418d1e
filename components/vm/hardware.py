"""What a machine is made of, as Compute Engine is told: its card, and what happens to it when its host needs care.

Owns: the inputs that the one machine and a group's template share. Does not own: the machine's choice
(`machines.choice`), its disks (`machine`, `group`). Pure.
"""

from typing import Any, Final

from components.machines.speeds import Machine

ATTACHED: Final = {"t4": "nvidia-tesla-t4"}
"""Cards that are attached to a machine; an L4 is part of its own."""


def accelerators(machine: Machine) -> Any:
    """`guest_accelerators`, of two typed forms; None for a machine without a card, or with one built in."""
    kind = ATTACHED.get(machine.gpu)
    return [{"type": kind, "count": 1}] if kind else None


def scheduling(machine: Machine, *, spot: bool) -> Any:
    """`scheduling`, of two typed forms. A machine with a card can't move to another host while it runs."""
    if spot:
        return {
            "provisioning_model": "SPOT",
            "preemptible": True,
            "automatic_restart": False,
            "on_host_maintenance": "TERMINATE",
            "instance_termination_action": "STOP",
        }
    care = "TERMINATE" if machine.gpu else "MIGRATE"
    return {"provisioning_model": "STANDARD", "automatic_restart": True, "on_host_maintenance": care}
