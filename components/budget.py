"""Mail before the Google project costs more in a month than its owner wants.

Owns: the budget, and the provider that may ask for it. Does not own: the address that mails go to
(`observability.alerts`), what a stack costs (`python -m lab cost`).

It tells and stops nothing: Google has no limit on spending, and counts hours late. It is of the whole project, for what
costs money carries no mark of a stack. Google's budgets belong to the billing account, so whoever deploys one needs
`billing.budgets.*` on the account (Billing Account Costs Manager).
"""

from typing import Final

import pulumi
import pulumi_gcp as gcp

from components.settings import Settings

SPENT: Final = (0.5, 0.9, 1.0)
"""Shares of the budget that a mail comes at."""
EXPECTED: Final = 1.0
"""Share of it that a mail comes at once a month is expected to cost so much."""


class Budget(pulumi.ComponentResource):
    """`budget` is its id. Mails go to `channel`, and to the billing account's administrators and users in any case."""

    budget: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        channel: pulumi.Output[str] | None,
        after: pulumi.Resource,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("pilotlight:gcp:Budget", name, None, opts)
        # A person's token is counted against gcloud's own project unless told, and this API refuses that one: 403.
        provider = gcp.Provider(
            f"{name}-provider",
            project=settings.project,
            billing_project=settings.project,
            user_project_override=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        # Google answers with the number; an id would show a difference in every preview.
        project = gcp.organizations.get_project_output(
            project_id=settings.project, opts=pulumi.InvokeOutputOptions(parent=self, depends_on=[after])
        )
        budget = gcp.billing.Budget(
            f"{name}-month",
            billing_account=settings.budget.billing_account,
            # 60 characters at most.
            display_name=f"{settings.prefix} in {settings.project}",
            amount={"specified_amount": {"units": str(settings.budget.per_month)}},
            budget_filter={
                "projects": [pulumi.Output.format("projects/{}", project.number)],
                "calendar_period": "MONTH",
            },
            threshold_rules=[
                *({"threshold_percent": share, "spend_basis": "CURRENT_SPEND"} for share in SPENT),
                {"threshold_percent": EXPECTED, "spend_basis": "FORECASTED_SPEND"},
            ],
            all_updates_rule={"monitoring_notification_channels": [channel]} if channel else None,
            opts=pulumi.ResourceOptions(parent=self, provider=provider),
        )
        self.budget = budget.id
        self.register_outputs({"budget": self.budget})
