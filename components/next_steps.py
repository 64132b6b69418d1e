"""What the user still has to do by hand, as the stack's `next_steps` output. Pure."""

from components.settings import Lane, Settings


def lines(settings: Settings) -> list[str]:
    """One instruction a line, in order; empty when nothing is left to do."""
    steps: list[str] = []
    if Lane.HOME in settings.lanes and settings.home.owner and settings.kubeconfig is None:
        steps += [
            "Home is not deployed yet: the stack has no kubeconfig. "
            + ("The other lanes serve meanwhile." if len(settings.lanes) > 1 else "Nothing serves until then."),
            "On the GPU server: install K3s and Tailscale, then join with "
            + f"`tailscale up --hostname={settings.home.hostname} --advertise-tags=tag:home --auth-key=<key>`; "
            + "the key: `pulumi stack output home_auth_key --show-secrets` (single use).",
            f"Copy its kubeconfig with `server: https://{settings.home.hostname}:6443` into the stack: "
            + "`pulumi config set --secret kubeconfig < kubeconfig.yaml`, then `pulumi up`.",
        ]
    if Lane.HOME in settings.lanes and not settings.home.owner:
        steps.append("Home is deployed by another stack (`home.owner: false`); this one only routes to it.")
    if Lane.HOME in settings.lanes and not settings.tailnet.policy_owner:
        steps.append(
            "The tailnet's policy belongs to another stack or to you (`tailnet.policy_owner: false`): "
            + "it must own tag:gateway and tag:home, and let tag:gateway reach tag:home:80."
        )
    return steps
