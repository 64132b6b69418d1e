"""What the owner can look at: metrics made of the log's lines, a dashboard of them, and a saved query.

Owns: registering them. Does not own: what they read and show (`metrics`, `dashboard`), mails (`alerts`).

None of it costs anything while nobody calls: without lines there are no points, and a dashboard is free.
"""

import json

import pulumi
from pulumi_gcp import logging, monitoring

from components.observability import dashboard, metrics
from components.settings import Settings


def gateway_service(settings: Settings) -> str:
    """The Cloud Run service whose lines are read."""
    return f"{settings.prefix}-gateway"


class Observability(pulumi.ComponentResource):
    """`dashboard` is its id."""

    dashboard: pulumi.Output[str]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:gcp:Observability", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        service = gateway_service(settings)
        for metric in metrics.declared(piloted=settings.piloted):
            logging.Metric(
                f"{name}-{metric.name}",
                project=settings.project,
                **metrics.arguments(metric, settings.prefix, service),
                opts=child,
            )
        found = monitoring.Dashboard(
            f"{name}-dashboard",
            project=settings.project,
            dashboard_json=json.dumps(dashboard.document(settings.prefix, piloted=settings.piloted)),
            opts=child,
        )
        logging.SavedQuery(
            f"{name}-usage",
            parent=f"projects/{settings.project}",
            location="global",
            name=f"{settings.prefix}-usage",
            display_name=f"{settings.prefix}: requests of clients",
            description="Every request with a client's key; `python -m lab usage` adds them up.",
            visibility="SHARED",
            logging_query={"filter": f"{metrics.filter_of(metrics.REQUESTS, service)} AND jsonPayload.client:*"},
            opts=child,
        )
        self.dashboard = found.id
        self.register_outputs({"dashboard": self.dashboard})
