"""The burst lane's container: vLLM on one L4, with its weights in a mounted bucket. Pure: settings in, data out.

Owns: command, arguments, environment, startup probe and mount options. Does not own: the arguments that every vLLM gets
(`vllm`), the service around the container (`service`).

Driver: Cloud Run's L4 instances have NVIDIA driver 535 (CUDA 12.2). A CUDA 12.9 image runs on it by CUDA's
minor-version compatibility (any 12.x wants a driver from 525 on); vLLM's default images are CUDA 13, which wants 580.
"""

from typing import Final

from components import vllm
from components.burst.fetch_weights import MANIFEST
from components.settings import Settings

FOLDER: Final = "/weights"
"""Where the bucket is mounted, in the service read-only and in the job that fills it."""
HEALTH: Final = "/health"
PROBE_MOST_S: Final = 240
"""Cloud Run: a startup probe may take 240 s, after an initial delay of 240 s at most."""
PROBE_PERIOD_S: Final = 2
SHUTDOWN_S: Final = 9
"""Cloud Run kills a container 10 s after SIGTERM."""
MOUNT_OPTIONS: Final = (
    # Folders are names only in a bucket.
    "implicit-dirs",
    # Weights are read once, from front to back: gcsfuse fetches the next 20 blocks of 16 MiB ahead of the reader, over
    # as many connections, in memory of the container. Its default is one connection.
    "enable-buffered-read=true",
)
_START: Final = """\
if [ ! -f "$0" ]; then
  echo "burst: $0 is not there: the weights are not whole yet; see the Cloud Run job that fills the bucket" >&2
  exit 1
fi
cat "${0%/*}"/*.safetensors >/dev/null &
exec vllm serve "$@"
"""
"""`cat` brings the weights into the page cache, which gcsfuse lets the kernel keep, while Python still imports vLLM."""


def folder(settings: Settings) -> str:
    """The weights' folder: its name holds the commit, so new settings never read old weights."""
    model = settings.contract.model
    return f"{FOLDER}/{model.weights}/{model.revision}"


def command(settings: Settings) -> list[str]:
    """Starts vLLM only on weights that were checked. Ending at once costs less GPU time than waiting for them would."""
    return ["/bin/sh", "-c", _START, f"{folder(settings)}/{MANIFEST}"]


def arguments(settings: Settings) -> list[str]:
    """What follows `vllm serve`."""
    burst = settings.burst
    return [
        *vllm.arguments(
            weights=folder(settings),
            served_name=settings.contract.model.name,
            gpu_memory_utilization=burst.gpu_memory_utilization,
            kv_cache_bytes=None,
            max_requests=burst.max_requests,
            drain_s=SHUTDOWN_S,
            own=vllm.model(settings.contract, revision=False),
        ),
        # config/compilation.py: torch.compile would run at every start, for half a minute to a minute, and makes an L4
        # 4 % faster (docs/decisions/15-burst-cold-start.md). The graphs of decoding need no compiler: with 16 requests
        # at a time they are five, captured in some 2 s, and without them each token waits for the CPU.
        "--compilation-config", '{"mode":0,"cudagraph_mode":"FULL_DECODE_ONLY"}',
        # config/load.py: mapped files are read in the order tensors are wanted, page by page. Through gcsfuse that is a
        # request for each jump; "eager" reads a file from front to back first, and needs memory for it.
        "--safetensors-load-strategy", "eager",
    ]  # fmt: skip


def environment(settings: Settings) -> dict[str, str]:
    """All is in the bucket: an instance that still asks Hugging Face would start slower, or not at all."""
    return {
        **vllm.environment(settings.contract),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # `vllm serve` spawns its engine (entrypoints/serve/utils/api_utils.py), which imports PyTorch and vLLM again. A
        # fork has them already; where CUDA is in use before, vLLM spawns in spite of this (utils/system_utils.py).
        "VLLM_WORKER_MULTIPROC_METHOD": "fork",
        # Whoever holds idle connections, here Cloud Run's proxy, must be the first to close them: vLLM's own 5 s would
        # close one that is just about to be used.
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(vllm.KEEP_ALIVE_S),
    }


def probe_times(wake_deadline_s: int) -> tuple[int, int]:
    """Initial delay and failure threshold of the startup probe: an instance may take as long as the pilot waits."""
    delay = max(0, wake_deadline_s - PROBE_MOST_S)
    return delay, (wake_deadline_s - delay) // PROBE_PERIOD_S
