"""Sharing the one GPU: the configuration of NVIDIA's device plugin, as pure functions.

Owns: time-slicing and the values of NVIDIA's chart. Does not own: driver, container toolkit and K3s on the machine.
Slices share time, not memory: each service limits its own memory (vLLM: --gpu-memory-utilization).
"""

import hashlib
from typing import Any, Final

import yaml

PLUGIN_REPOSITORY: Final = "https://nvidia.github.io/k8s-device-plugin"
PLUGIN_CHART: Final = "nvidia-device-plugin"
PLUGIN_NAMESPACE: Final = "{}-gpu"
"""By that of the services, where pods must do without what the plugin needs (`pod_security`)."""
PLUGIN_VERSION: Final = "0.20.0"
CONFIG_NAME: Final = "time-slicing"
"""Key in the ConfigMap, and the configuration every node takes."""


def time_slicing(slices: int) -> str:
    """The device plugin's configuration file (NVIDIA/k8s-device-plugin README, "With CUDA Time-Slicing").

    At 0.20.0 it refuses fewer than two slices, and ignores keys it doesn't know (api/config/v1).
    """
    config = {
        "version": "v1",
        "sharing": {
            "timeSlicing": {
                # The resource stays `nvidia.com/gpu`: charts of others fit without a change.
                "renameByDefault": False,
                # Two slices are no more than one, so asking for two is a mistake and fails (NVIDIA recommends this).
                "failRequestsGreaterThanOne": True,
                "resources": [{"name": "nvidia.com/gpu", "replicas": slices}],
            }
        },
    }
    return yaml.safe_dump(config, sort_keys=False)


def device_plugin_values(config_map: str, config: str) -> dict[str, Any]:
    """Values of NVIDIA's chart, for a ConfigMap named `config_map` that holds the text `config`."""
    return {
        "config": {"name": config_map, "default": CONFIG_NAME},
        # K3s leaves runc the default runtime; without this class the plugin finds no driver.
        "runtimeClassName": "nvidia",
        # The chart's DaemonSet runs on labelled nodes only. Node Feature Discovery sets that label from the PCI bus, so
        # a new GPU node needs no hand. GPU Feature Discovery (`gfd`) would bring it too, with a privileged pod for
        # labels (model, memory) that nothing here reads.
        # Its clean-up after an uninstall is a job whose end Helm awaits, and it held `destroy` up for 11 minutes, past
        # every time-out. Without it the node's labels stay (docs/operate.md, "Take it down").
        "nfd": {"enabled": True, "postDeleteCleanup": False},
        "gfd": {"enabled": False},
        # Both said, the chart gives the plugin no SYS_ADMIN: with a ConfigMap it must else fear MIG or volume mounts.
        "migStrategy": "none",
        "deviceListStrategy": "envvar",
        # The plugin reads an external ConfigMap at start only: a changed one must restart it.
        "podAnnotations": {"checksum/config": hashlib.sha256(config.encode()).hexdigest()},
    }
