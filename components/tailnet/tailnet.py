"""The tailnet that joins the gateway in the cloud and the GPU server at home, without an open port at home.

Owns: the tailnet's policy (where this stack is its owner), the auth keys, and the identities that may join without
one. Does not own: joining, which the gateway's Tailscale container and the home machine do.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import pulumi
import pulumi_tailscale as tailscale

from components.settings import Lane, Settings
from components.settings.tailnet import Join
from components.tailnet import before, mark
from components.tailnet.merge import declared, shielded_alone
from components.tailnet.policy import CI, GATEWAY, HOME

LAST_PART: Final = 6
"""In the last sixth of its life a key is renewed by `up`: of one of 90 days, in the last 15."""


def period(now: datetime, days: int) -> int:
    """Number of the period that `now` is in, for keys that live so many days; another number makes a new key.

    Periods are five sixths of a life long and counted from 1970, so every machine finds the same number from one `up`
    to the next. Whenever in a period a key is made, the next one begins before the key's last sixth does.
    """
    life_s = days * 24 * 3600
    return int(now.timestamp()) // (life_s - life_s // LAST_PART)


class Tailnet(pulumi.ComponentResource):
    """Policy and keys. `gateway_key` joins the gateway again and again, each key of home's one machine once.

    Where the gateway joins by its identity, `gateway_key` is None and `trust_gateway` makes what it needs.
    """

    gateway_key: pulumi.Output[str] | None
    gateway_key_expires: pulumi.Output[str] | None
    """When new instances of the gateway can't join any more, RFC 3339. An `up` in the key's last sixth, or after its
    end, makes a new key; the running revision keeps the old one until its successor serves."""
    home_key: pulumi.Output[str | None]
    node_keys: tuple[pulumi.Output[str], ...] = ()
    """Of home's second machine, its third, and so on."""
    policy_before: pulumi.Output[str] | None = None
    """The tailnet's policy before this stack's first one, HuJSON; None where another stack owns the policy."""
    ci: pulumi.Output[dict[str, str]] | None = None
    """`client_id` and `audience` for the workflow of pull requests; no secrets."""

    def __init__(
        self, name: str, settings: Settings, *, now: datetime, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pilotlight:tailnet:Tailnet", name, None, opts)
        self._name, self._settings = name, settings
        policies = [self._policy()] if settings.tailnet.policy_owner else []
        # The policy names who owns the tags, so it comes before any key or identity that carries one.
        self._after_policy = pulumi.ResourceOptions(parent=self, depends_on=policies)
        self.gateway_key = self.gateway_key_expires = None
        if settings.tailnet.join is Join.AUTH_KEY:
            gateway_key = self._key(
                "gateway",
                GATEWAY,
                reusable=True,
                ephemeral=True,
                recreate_if_invalid="always",
                # A plain `up` reads no key back, so it doesn't see one that has ended: the date has to say it.
                opts=pulumi.ResourceOptions(replacement_trigger=period(now, settings.tailnet.key_expiry_days)),
            )
            self.gateway_key, self.gateway_key_expires = _stripped(gateway_key), gateway_key.expires_at
        self.home_key = pulumi.Output.from_input(None)
        if Lane.HOME in settings.lanes and settings.home.owner:
            self.home_key = self._machine_key("home")
            self.node_keys = tuple(self._machine_key(f"home-{number}") for number in settings.home.further)
        if settings.tailnet.ci_repository:
            trusted = self._trust(
                "ci",
                CI,
                issuer="https://token.actions.githubusercontent.com",
                # The subject says whether it is a pull request or a deployment, and in repositories made since July
                # 2026 their numbers, too (GitHub's immutable subject claims). The claim names the repository alone.
                subject="repo:*",
                claims={"repository": settings.tailnet.ci_repository},
            )
            self.ci = pulumi.Output.all(client_id=trusted.id, audience=trusted.audience)
        self.register_outputs(
            {
                "gateway_key": self.gateway_key,
                "gateway_key_expires": self.gateway_key_expires,
                "home_key": self.home_key,
                **({"node_keys": list(self.node_keys)} if self.node_keys else {}),
            }
        )

    def trust_gateway(self, account_id: pulumi.Input[str]) -> tailscale.FederatedIdentity:
        """Lets the service account with this unique id, and nobody else, make the gateway's keys.

        Tailscale generates the audience, so a token for another service opens nothing here.
        """
        return self._trust("gateway", GATEWAY, issuer="https://accounts.google.com", subject=account_id)

    def _trust(
        self,
        whom: str,
        tag: str,
        *,
        issuer: str,
        subject: pulumi.Input[str],
        claims: Mapping[str, str] | None = None,
    ) -> tailscale.FederatedIdentity:
        """Lets one identity make keys for machines of one tag; its token must have all of `claims`."""
        return tailscale.FederatedIdentity(
            f"{self._name}-{whom}-identity",
            description=f"{self._settings.prefix} {whom}",
            issuer=issuer,
            subject=subject,
            custom_claim_rules=claims,
            scopes=["auth_keys"],
            tags=[tag],
            opts=self._after_policy,
        )

    def _policy(self) -> pulumi.Resource:
        tailnet, policy = self._settings.tailnet, declared(self._settings)
        for line in shielded_alone(self._settings):
            pulumi.log.warn(line, self)
        writer, text = mark.writer(self._settings), json.dumps(policy, indent=2, ensure_ascii=False)
        kept, own = before.kept(f"{self._name}-policy-before", policy, writer, opts=pulumi.ResourceOptions(parent=self))
        self.policy_before = kept.output
        return tailscale.Acl(
            f"{self._name}-policy",
            acl=kept.output.apply(lambda stood: mark.marked(text, writer, stood)),
            # Off, Tailscale accepts the creation over an untouched policy only; an edited one stays. What this stack
            # itself left behind when it was destroyed isn't edited.
            overwrite_existing_content=tailnet.overwrite_policy or own,
            # Destroying a stack must not open the tailnet unasked: a reset brings allow-all back.
            reset_acl_on_destroy=tailnet.reset_policy_on_destroy,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[kept],
                retain_on_delete=not tailnet.reset_policy_on_destroy,
                # It counts at the creation alone; from the second update on, the policy is this stack's own.
                ignore_changes=["overwriteExistingContent"],
            ),
        )

    def _machine_key(self, whose: str) -> pulumi.Output[str]:
        """For one machine at home, once.

        Not ephemeral: such a machine leaves the tailnet when it is switched off, and its key is used up by then. A
        single-use key is invalid once used, which is its normal end. It isn't renewed by date either: one that nobody
        needs would be good for joining the tailnet.
        """
        return _stripped(self._key(whose, HOME, reusable=False, ephemeral=False, recreate_if_invalid="never"))

    def _key(
        self,
        whose: str,
        tag: str,
        *,
        reusable: bool,
        ephemeral: bool,
        recreate_if_invalid: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> tailscale.TailnetKey:
        return tailscale.TailnetKey(
            f"{self._name}-{whose}-key",
            description=f"{self._settings.prefix} {whose}",
            reusable=reusable,
            ephemeral=ephemeral,
            preauthorized=True,
            expiry=self._settings.tailnet.key_expiry_days * 24 * 3600,
            tags=[tag],
            recreate_if_invalid=recreate_if_invalid,
            opts=pulumi.ResourceOptions.merge(self._after_policy, opts),
        )


def _stripped(key: tailscale.TailnetKey) -> pulumi.Output[str]:
    """A newline or blank that crept into a stored key makes Tailscale answer `invalid key`."""
    return pulumi.Output.secret(key.key.apply(str.strip))
