"""What the owner is told about the kubeconfig's end, and when: every date is made here."""

from datetime import UTC, datetime, timedelta

import pytest

from components.home import bootstrap, certificate
from components.settings.kubeconfig import Life

BEGINS = datetime(2031, 3, 1, 12, tzinfo=UTC)
ENDS = datetime(2032, 2, 29, 12, tzinfo=UTC)
LIFE = Life(BEGINS, ENDS)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (BEGINS - SECOND, "good from 2031-03-01T12:00:00Z on, and here it is 2031-03-01T11:59:59Z"),
        (BEGINS, None),
        (ENDS - timedelta(days=60) - SECOND, None),
        (ENDS - timedelta(days=60), "its certificate ends at 2032-02-29T12:00:00Z. Consequence: from then on home"),
        (ENDS - SECOND, "its certificate ends at 2032-02-29T12:00:00Z"),
        (ENDS, "its certificate ended at 2032-02-29T12:00:00Z. Consequence: home refuses it"),
    ],
)
def test_it_is_told_when_there_is_something_to_do(now: datetime, said: str | None) -> None:
    line = certificate.told(LIFE, now)
    if said is None:
        assert line is None
        return
    assert line
    assert line.startswith("kubeconfig: ")
    assert said in line
    assert "pulumi stack output home_bootstrap --show-secrets | ssh <server> sudo bash > kubeconfig.yaml" in line
    assert "pulumi config set --secret kubeconfig < kubeconfig.yaml" in line


def test_what_has_no_end_is_never_told() -> None:
    assert certificate.told(None, ENDS) is None


def test_times_are_utc_wherever_they_were_taken() -> None:
    abroad = datetime.fromisoformat("2032-03-01T01:00:00+09:00")
    assert Life(BEGINS, abroad).expires == "2032-02-29T16:00:00Z"


def test_whoever_is_told_gets_another_one() -> None:
    """120: K3s' own, `CertificateRenewDays`."""
    assert certificate.TOLD_BEFORE_DAYS < bootstrap.RENEW_BEFORE_DAYS < 120
