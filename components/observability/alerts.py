"""Mail to the owner before something ends, and when something breaks.

Owns: the channel, the alerts before the gateway's auth key and home's kubeconfig end, and the policies of what can go
wrong. Does not own: what can (`trouble`, `uptime`), a key's or a kubeconfig's renewal.

Google takes a price for each condition, whether it holds or not (cloud.google.com/monitoring/alerts/cost-control; 0.10
USD a month each, from memory): nothing of it is there without `alerts.email`.
"""

from datetime import datetime
from typing import Any, Final

import pulumi
from pulumi_gcp import monitoring

from components.home import certificate
from components.observability import trouble, uptime
from components.settings import Settings
from components.tailnet.tailnet import LAST_PART, Tailnet

EVERY_S: Final = 60
"""Between two looks for trouble, seconds."""


def ends_soon(expires_at: str, *, before_days: float) -> str:
    """PromQL that holds from some days before `expires_at` (RFC 3339) on.

    It asks the clock and no metric: that a key grows old is nothing a machine of this stack would notice, least of all
    one that has scaled to zero. Cloud Monitoring evaluates it like any other (its PromQL is that of Prometheus 2.44).
    """
    ends = datetime.fromisoformat(expires_at).timestamp()
    return f"vector(time()) >= {int(ends - before_days * 24 * 3600)}"


class Alerts(pulumi.ComponentResource):
    """`channel` is where alerts go, the budget's mails among them: it is there whether anything ends or not."""

    channel: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        tailnet: Tailnet | None,
        url: pulumi.Output[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:Alerts", name, None, opts)
        self._name, self._settings = name, settings
        channel = monitoring.NotificationChannel(
            f"{name}-email",
            project=settings.project,
            display_name=f"{settings.prefix} owner",
            type="email",
            labels={"email_address": settings.alerts.email},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.channel = channel.id
        if tailnet and tailnet.gateway_key_expires:
            self._before_end(
                "key",
                tailnet.gateway_key_expires,
                what="the gateway's tailnet key",
                before_days=settings.tailnet.key_expiry_days / LAST_PART,
                then="New instances of the gateway can't reach home then",
                renew="`pulumi up`, from now on",
            )
        if settings.home_certificate:
            self._before_end(
                "kubeconfig",
                pulumi.Output.from_input(settings.home_certificate.expires),
                what="home's kubeconfig",
                before_days=certificate.TOLD_BEFORE_DAYS,
                then="What `pulumi up` changes at home fails then; home serves on",
                renew=certificate.RENEW,
            )
        for one in trouble.troubles(settings):
            self._asks(one.name, title=one.title, condition=one.title, query=one.query, every_s=EVERY_S, told=one.then)
        if settings.alerts.uptime_check:
            check_id = uptime.check(name, settings, url, self)
            self._policy("uptime", uptime.TITLE, check_id.apply(uptime.condition), uptime.told(settings))
        self.register_outputs({"channel": self.channel})

    def _before_end(
        self, of: str, expires_at: pulumi.Output[str], *, what: str, before_days: float, then: str, renew: str
    ) -> None:
        self._asks(
            f"{of}-ends",
            title=f"{what} ends soon",
            condition=f"{what} has {before_days:g} days left",
            query=expires_at.apply(lambda at: ends_soon(at, before_days=before_days)),
            every_s=600,
            told=expires_at.apply(lambda at: f"It ends at {at}. {then}. Renew it: {renew}."),
        )

    def _asks(
        self, of: str, *, title: str, condition: str, query: pulumi.Input[str], every_s: int, told: pulumi.Input[str]
    ) -> None:
        """A policy whose condition is PromQL."""
        asked = {
            "display_name": condition,
            "condition_prometheus_query_language": {
                "query": query,
                "evaluation_interval": f"{every_s}s",
                "duration": "0s",
                # A metric of the log has no series before its first line, and none is a reason to refuse.
                "disable_metric_validation": True,
            },
        }
        self._policy(of, title, asked, told)

    def _policy(self, of: str, title: str, condition: pulumi.Input[Any], told: pulumi.Input[str]) -> None:
        monitoring.AlertPolicy(
            f"{self._name}-{of}",
            project=self._settings.project,
            display_name=f"{self._settings.prefix}: {title}",
            combiner="OR",
            severity="WARNING",
            conditions=[condition],
            notification_channels=[self.channel],
            documentation={"mime_type": "text/markdown", "content": told},
            opts=pulumi.ResourceOptions(parent=self),
        )
