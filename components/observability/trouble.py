"""What is worth a mail while the stack runs: each trouble's condition, and what to do about it. Pure.

Owns: the conditions in PromQL and the words of the mails. Does not own: the policies (`alerts`), the
metrics (`metrics`).

They read what is written down anyway. A gateway that sleeps writes nothing, and raises no alert: nobody calls.
"""

from dataclasses import dataclass
from typing import Final

from components.observability import metrics
from components.observability.metrics import total
from components.settings import Lane, Settings

ERRORS_SHARE: Final = 0.1
"""Of a client's answers that are errors of the server's, in `WINDOW`."""
WINDOW: Final = "10m"
AWAY_ACCOUNTS: Final = 8
"""Of the pilot's ten in `WINDOW`: an instance that starts or ends in it writes fewer."""


@dataclass(frozen=True)
class Trouble:
    """One alert."""

    name: str
    title: str
    query: str
    then: str
    """What it means, and what to do."""


def troubles(settings: Settings) -> list[Trouble]:
    """Those that the stack can have."""
    prefix = settings.prefix
    failed = total(metrics.REQUESTS, prefix, WINDOW, by=(), where='status=~"5.."')
    asked = total(metrics.REQUESTS, prefix, WINDOW, by=())
    found = [
        Trouble(
            "errors",
            "callers get errors",
            f"{failed} / {asked} > {ERRORS_SHARE:g}",
            "More than a tenth of the answers of the last ten minutes were a 5xx. `GET /v1/lanes` says which lane is "
            f"away and why; the lines: `gcloud run services logs read {prefix}-gateway --region {settings.region}`. "
            "503 `no_lane`: every lane was full or away for as long as a request waits; 500 with a lane: that lane's "
            "model server.",
        )
    ]
    if Lane.HOME in settings.lanes:
        away = total(metrics.STATES, prefix, WINDOW, by=(), where='lane="home",state=~"down|slow"')
        found.append(
            Trouble(
                "home-away",
                "home is away",
                f"{away} >= {AWAY_ACCOUNTS}",
                "For ten minutes nothing went to home, and the other lanes, which may cost more, answered. Is the "
                f"server on, and the line? `tailscale ping {settings.home.hostname}`; on the server `systemctl status "
                "k3s tailscaled`, `k3s kubectl get pods -A` and `nvidia-smi`. It is taken back by itself.",
            )
        )
    if Lane.BURST in settings.lanes:
        failed = total(metrics.MOVES, prefix, WINDOW, by=(), where='lane="burst",from="warming",to="down"')
        found.append(
            Trouble(
                "burst-down",
                "burst did not come up",
                f"{failed} > 0",
                f"It was woken, and gave no answer in {settings.burst.wake_deadline_s:g} s. Has the weights' job run "
                f"(`gcloud run jobs executions list --job {prefix}-weights --region {settings.region}`), and is there "
                f"quota for the GPU? The lines: `gcloud run services logs read {prefix}-burst --region "
                f"{settings.region}`. It is tried again after {settings.burst.retry_s:g} s.",
            )
        )
    if Lane.VM in settings.lanes:
        alive = (
            'compute_googleapis_com:instance_uptime{monitored_resource="gce_instance",'
            + f'instance_name=~"{prefix}-vm.*"}}'
        )
        spot = " Spot capacity may be short: the group tries on." if settings.vm_spot else ""
        found.append(
            Trouble(
                "vm-stopped",
                "no VM runs",
                f"absent_over_time({alive}[{WINDOW}])",
                f"No machine of the lane vm has run for ten minutes.{spot} See `gcloud compute instances list --filter "
                f"'name~^{prefix}-vm'`, and its serial port's output for why it doesn't start. The other lanes serve.",
            )
        )
    return found
