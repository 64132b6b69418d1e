"""The section `budget`: what a month may cost before somebody is told.

Owns: its two values, each for itself. Does not own: that one wants the other (`rules`), the budget itself
(`components.budget`).
"""

from pydantic import Field

from components.settings.section import Section


class BudgetSettings(Section):
    """A budget tells, and stops nothing: Google has no limit on spending."""

    per_month: int | None = Field(
        default=None,
        ge=1,
        description="A month's budget for the whole Google project, in the billing account's currency: mails at 50, 90 "
        + "and 100 % of it, and when 100 % is to be expected. None: no budget.",
    )
    billing_account: str = Field(
        default="",
        pattern=r"^([0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6})?$",
        description="Billing account that pays for the Google project, like 012345-6789AB-CDEF01.",
    )
