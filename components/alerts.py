"""Mail to the owner before something ends.

Owns: the alert before the gateway's auth key ends. Does not own: the key or its renewal, which is `pulumi up`'s.
"""

from datetime import datetime
from typing import Final

import pulumi
from pulumi_gcp import monitoring

from components.settings import Settings
from components.tailnet.tailnet import RENEW_GATEWAY_KEY

TOLD_BEFORE: Final = 6
"""The alert comes in the last sixth of a key's life: 15 days before the end of one of 90."""


def ends_soon(expires_at: str, *, life_days: int) -> str:
    """PromQL that holds from shortly before `expires_at` (RFC 3339) on.

    It asks the clock and no metric: that a key grows old is nothing a machine of this stack would notice, least of all
    one that has scaled to zero. Cloud Monitoring evaluates it like any other (its PromQL is that of Prometheus 2.44).
    """
    ends = datetime.fromisoformat(expires_at).timestamp()
    return f"vector(time()) >= {int(ends - life_days * 24 * 3600 / TOLD_BEFORE)}"


class Alerts(pulumi.ComponentResource):
    """`channel` is where alerts go."""

    channel: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        key_expires: pulumi.Output[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:Alerts", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        channel = monitoring.NotificationChannel(
            f"{name}-email",
            project=settings.project,
            display_name=f"{settings.prefix} owner",
            type="email",
            labels={"email_address": settings.alerts.email},
            opts=own,
        )
        days = settings.tailnet.key_expiry_days
        monitoring.AlertPolicy(
            f"{name}-key-ends",
            project=settings.project,
            display_name=f"{settings.prefix}: the gateway's tailnet key ends soon",
            combiner="OR",
            severity="WARNING",
            conditions=[
                {
                    "display_name": "last sixth of the key's life",
                    "condition_prometheus_query_language": {
                        "query": key_expires.apply(lambda at: ends_soon(at, life_days=days)),
                        "evaluation_interval": "600s",
                        "duration": "0s",
                    },
                }
            ],
            notification_channels=[channel.id],
            documentation={
                "mime_type": "text/markdown",
                "content": pulumi.Output.format(
                    "The auth key ends at {0}. New instances of the gateway can't reach home then. Renew it: `{1}`.",
                    key_expires,
                    RENEW_GATEWAY_KEY,
                ),
            },
            opts=own,
        )
        self.channel = channel.id
        self.register_outputs({"channel": self.channel})
