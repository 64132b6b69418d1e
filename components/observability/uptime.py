"""A look from outside whether the endpoint answers at all: opt-in, for it keeps the gateway awake.

Owns: the check, and the condition of its mail. Does not own: the channel (`alerts`), its price (`lab.read.cost`).

It asks without a key, so it proves Cloud Run and Caddy, and no lane: 401 is the answer of a gateway that is well. The
condition is the one that Google's console makes for a check (as kept in liuchenggang2014/uptime_check and
gpii-ops/gpii-infra): it counts the places whose last look failed.
"""

from typing import Any, Final
from urllib.parse import urlsplit

import pulumi
from pulumi_gcp import monitoring

from components.settings import Settings

PERIOD_S: Final = 900
"""The longest that Google takes. From six places it is a question every 150 s on average."""
PATH: Final = "/v1/models"
WITHOUT_A_KEY: Final = 401
PASSED: Final = "monitoring.googleapis.com/uptime_check/check_passed"
TITLE: Final = "the endpoint is away"


def check(name: str, settings: Settings, url: pulumi.Output[str], parent: pulumi.Resource) -> pulumi.Output[str]:
    """Registers the check of the gateway at `url`; its id."""
    found = monitoring.UptimeCheckConfig(
        f"{name}-uptime-check",
        project=settings.project,
        display_name=f"{settings.prefix}: the endpoint",
        period=f"{PERIOD_S}s",
        timeout="30s",
        http_check={
            "path": PATH,
            "port": 443,
            "use_ssl": True,
            "validate_ssl": True,
            "accepted_response_status_codes": [{"status_value": WITHOUT_A_KEY}],
        },
        monitored_resource={
            "type": "uptime_url",
            "labels": {"project_id": settings.project, "host": url.apply(lambda text: urlsplit(text).netloc)},
        },
        opts=pulumi.ResourceOptions(parent=parent),
    )
    return found.uptime_check_id


def told(settings: Settings) -> str:
    """What the mail means, and what to do."""
    service = f"{settings.prefix}-gateway --region {settings.region}"
    return (
        "From more than one place of the world there was no answer of the gateway. `pulumi stack output base_url` is "
        + "its address: asked for `/models` without a key, it says 401. If it doesn't, `gcloud run services describe "
        + f"{service}` says why no instance serves. Requests that fail on a lane are another mail's."
    )


def condition(check_id: str) -> dict[str, Any]:
    """Of the alert policy: more than one place's last look failed."""
    return {
        "display_name": TITLE,
        "condition_threshold": {
            "filter": f'resource.type="uptime_url" AND metric.type="{PASSED}" AND metric.labels.check_id="{check_id}"',
            "comparison": "COMPARISON_GT",
            "threshold_value": 1,
            "duration": "60s",
            "aggregations": [
                {
                    "alignment_period": f"{PERIOD_S + 300}s",
                    "per_series_aligner": "ALIGN_NEXT_OLDER",
                    "cross_series_reducer": "REDUCE_COUNT_FALSE",
                    "group_by_fields": ["resource.label.*"],
                }
            ],
        },
    }
