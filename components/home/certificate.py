"""The words about the certificate in the kubeconfig, which ends after a year: soon, by now, or not good yet. Pure.

Owns: when the owner is told, and what he does then. Does not own: reading the certificate (`settings.kubeconfig`), the
clock, the mail (`observability.alerts`).
"""

from datetime import datetime, timedelta
from typing import Final

from components.settings.kubeconfig import Life, rfc3339
from components.settings.section import problem

TOLD_BEFORE_DAYS: Final = 60
"""By then the script of home makes K3s renew the certificate (`bootstrap.RENEW_BEFORE_DAYS`); K3s does so in the last
120 days, at its start (pkg/daemons/config/types.go, CertificateRenewDays; 90 before May 2025)."""
FETCH: Final = "`pulumi stack output home_bootstrap --show-secrets | ssh <server> sudo bash > kubeconfig.yaml`"
"""Prints the kubeconfig, whether the machine is new or has served for a year."""
HAND_OVER: Final = "`pulumi config set --secret kubeconfig < kubeconfig.yaml && rm kubeconfig.yaml`"
RENEW: Final = f"{FETCH}, then {HAND_OVER} and `pulumi up`"


def told(life: Life | None, now: datetime) -> str | None:
    """The warning of a preview and an update; None while there is nothing to say."""
    if life is None:
        return None
    if now < life.begins:
        return problem(
            "kubeconfig",
            f"its certificate is good from {rfc3339(life.begins)} on, and here it is {rfc3339(now)}",
            "home refuses it, and whatever changes there fails, after the whole cloud has changed",
            f"set the clock that is wrong, this machine's or home's; if it was home's, {RENEW}",
        )
    if now >= life.ends:
        return problem(
            "kubeconfig",
            f"its certificate ended at {life.expires}",
            "home refuses it, and whatever changes there fails, after the whole cloud has changed",
            RENEW,
        )
    if now >= life.ends - timedelta(days=TOLD_BEFORE_DAYS):
        return problem(
            "kubeconfig",
            f"its certificate ends at {life.expires}",
            "from then on home refuses it, and whatever changes there fails",
            RENEW,
        )
    return None
