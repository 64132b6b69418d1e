"""How long a kubeconfig is good: the client's own certificate, and words that hold nothing of it."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.settings.kubeconfig import Life, fault, life
from tests import certificates

BEGINS = datetime(2031, 3, 1, 12, tzinfo=UTC)
ENDS = datetime(2032, 2, 29, 12, tzinfo=UTC)
CLIENT = certificates.pem(BEGINS, ENDS)
AUTHORITY = certificates.pem(BEGINS, BEGINS + timedelta(days=3650), "k3s-client-ca")
SECRET = "a-very-secret-value"


def in_lines(text: str) -> str:
    return "\n".join(text[start : start + 64] for start in range(0, len(text), 64))


@pytest.mark.parametrize(
    "text",
    [
        certificates.kubeconfig(CLIENT),
        certificates.kubeconfig(CLIENT, AUTHORITY),
        certificates.kubeconfig(**{"client-certificate-data": in_lines(base64.b64encode(CLIENT.encode()).decode())}),
        certificates.kubeconfig(f"Certificate of {SECRET}\n{CLIENT}"),
    ],
    ids=["alone", "with its authority", "base64 in lines", "with words before"],
)
def test_the_clients_certificate_says_how_long(text: str) -> None:
    assert fault(text) == ""
    assert life(text) == Life(BEGINS, ENDS)


def test_the_first_certificate_is_the_clients() -> None:
    found = life(certificates.kubeconfig(AUTHORITY, CLIENT))
    assert found
    assert found.ends == BEGINS + timedelta(days=3650)


@pytest.mark.parametrize(
    "text",
    [
        certificates.kubeconfig(),
        certificates.kubeconfig(token=SECRET),
        # The API server takes whichever is good.
        certificates.kubeconfig(CLIENT, token=SECRET),
        certificates.kubeconfig(**{"client-certificate": "/etc/client.crt"}),
        certificates.kubeconfig(**{"client-certificate-data": ""}),
    ],
    ids=["nothing", "token", "token and certificate", "file", "empty"],
)
def test_what_ends_by_no_certificate_has_no_end(text: str) -> None:
    assert fault(text) == ""
    assert life(text) is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (SECRET, "must have client-certificate-data in base64, is broken"),
        ("Zürich", "must have client-certificate-data in base64, is broken"),
        (base64.b64encode(CLIENT.encode()).decode()[:-3], "must have client-certificate-data in base64, is broken"),
        (base64.b64encode(SECRET.encode()).decode(), "must have a certificate in PEM as client-certificate-data"),
        (base64.b64encode(CLIENT.encode()[:200]).decode(), "must have a certificate in PEM"),
        (base64.b64encode(CLIENT.replace("MII", "MIZ").encode()).decode(), "must have a certificate in PEM"),
        (
            base64.b64encode(CLIENT.replace("CERTIFICATE", "PUBLIC KEY").encode()).decode(),
            "must have a certificate in PEM",
        ),
    ],
    ids=["no base64", "no ASCII", "cut base64", "no PEM", "cut PEM", "broken inside", "something else in PEM"],
)
def test_a_broken_certificate_is_refused_without_a_word_of_it(data: str, told: str) -> None:
    found = fault(certificates.kubeconfig(**{"client-certificate-data": data}))
    assert found.startswith(told)
    assert SECRET not in found


def test_a_certificate_that_is_no_text_is_refused() -> None:
    text = certificates.kubeconfig(**{"client-certificate-data": "x"}).replace(": x", ": [x]")
    assert fault(text) == "must have client-certificate-data in base64, is broken"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_refused(der: bytes) -> None:
    inside = base64.encodebytes(der).decode()
    text = certificates.kubeconfig(f"-----BEGIN CERTIFICATE-----\n{inside}-----END CERTIFICATE-----\n")
    assert fault(text) in ("", "must have a certificate in PEM as client-certificate-data, is broken")


@pytest.mark.parametrize(
    ("now", "good"),
    [
        (BEGINS - timedelta(seconds=1), False),
        (BEGINS, True),
        (ENDS - timedelta(seconds=1), True),
        (ENDS, False),
    ],
)
def test_it_is_good_from_its_beginning_to_its_end(now: datetime, good: bool) -> None:
    found = life(certificates.kubeconfig(CLIENT))
    assert found
    assert found.holds(now) is good
