"""Kubeconfigs with certificates that are made while a test runs, so that no test depends on today's date."""

import base64
from datetime import datetime

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID


def pem(begins: datetime, ends: datetime, name: str = "system:admin") -> str:
    """A certificate that signs itself."""
    key = generate_private_key(SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number(), begins, ends)
    return built.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def kubeconfig(*chain: str, server: str = "https://home:6443", **user: str) -> str:
    """As K3s writes it: the client's certificate comes first. Without one, the user has what is named alone."""
    data = {"client-certificate-data": base64.b64encode("".join(chain).encode()).decode()} if chain else {}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default", "cluster": {"server": server}}],
            "users": [{"name": "default", "user": data | user}],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "current-context": "default",
        }
    )
