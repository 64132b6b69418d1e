"""The tailnet that joins the gateway in the cloud and the GPU server at home, without an open port at home.

Owns: the tailnet's policy (where this stack is its owner) and the two auth keys. Does not own: joining, which the
gateway's Tailscale container and the home machine do.
"""

import json

import pulumi
import pulumi_tailscale as tailscale

from components.settings import Lane, Settings
from components.tailnet.acl import CI, GATEWAY, HOME, policy
from components.tailnet.merge import declared, require_mergeable

__all__ = ["CI", "GATEWAY", "HOME", "Tailnet", "policy", "require_mergeable"]


class Tailnet(pulumi.ComponentResource):
    """Policy and keys. `gateway_key` joins the gateway again and again, `home_key` the home machine once."""

    gateway_key: pulumi.Output[str]
    home_key: pulumi.Output[str | None]

    def __init__(self, name: str, settings: Settings, *, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("pilotlight:tailnet:Tailnet", name, None, opts)
        acl: list[pulumi.Resource] = []
        if settings.tailnet.policy_owner:
            acl.append(
                tailscale.Acl(
                    f"{name}-policy",
                    acl=json.dumps(declared(settings), indent=2, ensure_ascii=False),
                    # Off, Tailscale accepts the first update of an untouched policy only; an edited one stays.
                    overwrite_existing_content=settings.tailnet.overwrite_policy,
                    # Destroying a stack must not open the tailnet unasked: a reset brings allow-all back.
                    reset_acl_on_destroy=settings.tailnet.reset_policy_on_destroy,
                    opts=pulumi.ResourceOptions(
                        parent=self, retain_on_delete=not settings.tailnet.reset_policy_on_destroy
                    ),
                )
            )
        # The policy names who owns the tags, so it comes before any key that carries one.
        after_policy = pulumi.ResourceOptions(parent=self, depends_on=acl)
        expiry = settings.tailnet.key_expiry_days * 24 * 3600
        gateway_key = tailscale.TailnetKey(
            f"{name}-gateway-key",
            description=f"{settings.prefix} gateway",
            reusable=True,
            ephemeral=True,
            preauthorized=True,
            expiry=expiry,
            tags=[GATEWAY],
            recreate_if_invalid="always",
            opts=after_policy,
        )
        self.gateway_key = _stripped(gateway_key)
        self.home_key = pulumi.Output.from_input(None)
        if Lane.HOME in settings.lanes and settings.home.owner:
            home_key = tailscale.TailnetKey(
                f"{name}-home-key",
                description=f"{settings.prefix} home",
                reusable=False,
                # An ephemeral machine leaves the tailnet when it is switched off, and its key is used up by then.
                ephemeral=False,
                preauthorized=True,
                expiry=expiry,
                tags=[HOME],
                # A single-use key is invalid once used, which is its normal end.
                recreate_if_invalid="never",
                opts=after_policy,
            )
            self.home_key = _stripped(home_key)
        self.register_outputs({"gateway_key": self.gateway_key, "home_key": self.home_key})


def _stripped(key: tailscale.TailnetKey) -> pulumi.Output[str]:
    """A newline or blank that crept into a stored key makes Tailscale answer `invalid key`."""
    return pulumi.Output.secret(key.key.apply(str.strip))
