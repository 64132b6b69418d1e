"""The home GPU server: what the stack deploys onto its K3s cluster."""

from components.home.home import Home

__all__ = ["Home"]
