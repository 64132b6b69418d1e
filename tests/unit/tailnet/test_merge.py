"""The user's own policy file: what it says is kept, this stack's share is added, and what contradicts it is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import json5
import pytest

from components.settings import Settings
from components.settings.section import SettingsError
from components.tailnet import merge, own_file, reach
from components.tailnet.policy import policy, share

Make = Callable[..., Settings]
Merge = Callable[..., dict[str, Any]]

USERS = """
// Our tailnet.
{
  "groups": {"group:ops": ["ann@example.com", "bob@example.com"]},
  "tagOwners": {"tag:nas": ["group:ops"], /* the box in the cellar */ "tag:build": ["tag:nas"]},
  "ACLs": [
    // People reach what they like.
    {"action": "accept", "src": ["autogroup:member"], "dst": ["*:*"]},
    {"action": "accept", "src": ["tag:build"], "dst": ["tag:nas:22,445"]},
  ],
  "grants": [{"src": ["group:ops"], "dst": ["tag:nas"], "app": {"example.com/cap/backup": [{"what": "all"}]}}],
  "ssh": [{"action": "accept", "src": ["group:ops"], "dst": ["tag:nas"], "users": ["root"]}],
  "nodeAttrs": [{"target": ["*"], "attr": ["funnel"]}],
  "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:nas"]}},
  "tests": [{"src": "tag:build", "accept": ["tag:nas:22"], "deny": ["tag:nas:80"]}],
  "randomizeClientPort": true,
}
"""


@pytest.fixture
def merged(settings_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Merge:
    """`merged(text, owners=[...])`: what a stack with this policy file registers."""
    monkeypatch.setattr(own_file, "ROOT", tmp_path)

    def build(text: str | bytes, nodes: int = 1, **changes: Any) -> dict[str, Any]:
        (tmp_path / "policy.hujson").write_bytes(text.encode() if isinstance(text, str) else text)
        tailnet = {"policy_file": "policy.hujson", **changes}
        return merge.declared(settings_of(home={"nodes": nodes}, tailnet=tailnet))

    return build


def rules(*rows: str, **sections: str) -> str:
    """A policy file of some `acls` rows and other sections."""
    return (
        "{"
        + ", ".join(f'"{name}": {text}' for name, text in {"acls": f"[{', '.join(rows)}]", **sections}.items())
        + "}"
    )


def allow(src: str, dst: str, **more: str) -> str:
    return json.dumps({"action": "accept", "src": [src], "dst": [dst], **more})


def test_every_section_the_user_wrote_is_kept_and_ours_are_added(merged: Merge, settings_of: Make) -> None:
    users, ours, found = own_file.json5.loads(USERS), share(settings_of()), merged(USERS)
    assert found.keys() == users.keys()
    for name in ("groups", "grants", "ssh", "nodeAttrs", "autoApprovers", "randomizeClientPort"):
        assert found[name] == users[name]
    assert found["ACLs"] == [*users["ACLs"], *ours["acls"]]
    assert found["tests"] == [*users["tests"], *ours["tests"]]
    assert found["tagOwners"] == users["tagOwners"] | ours["tagOwners"]


def test_what_the_user_wrote_already_is_not_doubled(merged: Merge, settings_of: Make) -> None:
    ours = share(settings_of())
    reordered = json.loads(json.dumps(ours))
    reordered["acls"][2]["dst"].reverse()
    reordered["tests"][0]["deny"].reverse()
    assert merged(json.dumps(reordered)) == reordered
    first = merged(USERS)
    assert merged(json.dumps(first)) == first, "a file that holds the share already changes nothing"


def test_several_machines_at_home_are_merged_too(merged: Merge, settings_of: Make) -> None:
    ours = share(settings_of(home={"nodes": 2}))
    assert merged(USERS, nodes=2)["ACLs"][-2:] == ours["acls"][-2:]
    assert merged(USERS, nodes=2)["tests"][1:] == ours["tests"]
    assert merged(json.dumps(ours), nodes=2) == ours, "the share itself opens nothing that it denies"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (rules(allow("tag:home", "tag:home:22")), r"acls\[0\]: must not let tag:home reach tag:home:22\."),
        (rules(allow("tag:home", "tag:home:*", proto="udp")), r"let tag:home reach tag:home:6443 and 1 more"),
        (rules(allow("tag:home", "tag:home:8472")), r"let tag:home reach tag:home:8472\."),
        (rules(grants='[{"src": ["tag:home"], "dst": ["tag:home"], "ip": ["17:10250"]}]'), r"reach tag:home:10250\."),
        (rules(tests='[{"src": "tag:home", "proto": "udp", "deny": ["tag:home:8472"]}]'), r"must not deny tag:home"),
    ],
)
def test_what_machines_at_home_need_not_reach_of_each_other_is_refused(merged: Merge, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        merged(text, nodes=2)
    assert merged(text), "with one machine nothing is said about it"


def test_only_the_share_is_added_to_a_policy_of_ones_own(merged: Merge) -> None:
    """What members reach of each other is the user's to say."""
    found = merged('{"acls": []}')
    assert set(found) == {"acls", "tagOwners", "tests"}
    assert not [rule for rule in found["acls"] if "autogroup:member" in rule["src"]]


def test_the_merged_policy_is_what_is_registered(merged: Merge, stack_of: Callable[..., Any]) -> None:
    wanted = merged(USERS, owners=["ann@example.com"])
    stack = stack_of(tailnet={"policy_file": "policy.hujson", "owners": ["ann@example.com"]})
    [acl] = [r for r in stack.resources if r.name == "tailnet-policy"]
    assert json5.loads(acl.inputs["acl"]) == wanted


REFUSED: list[tuple[str, str | bytes, str]] = [
    (
        "a missing comma",
        '{\n  "acls": [\n    {"action": "accept"}\n    {}\n  ]\n}',
        r"policy.hujson .* line 4, column 5: ",
    ),
    ("two commas", '{\n  "acls": [{},, ],\n}', r"line 2, column 15: "),
    ("no end", '{"acls": [', r"line 1, column 11: Unexpected end"),
    ("nothing", "", r"policy.hujson is broken at "),
    ("a key twice", '{"acls": [], "acls": []}', r"broken at Duplicate key \"acls\""),
    ("no UTF-8", b'{"acls": ["\xff"]}', r"no UTF-8"),
    ("an abyss", "[" * 3000, r"nests too deeply"),
    ("a list", "[]", r"one object of sections"),
    ("two spellings", '{"acls": [], "ACLs": []}', r"policy_file ACLs: a section stands once"),
    ("rules of another form", '{"acls": [], "tests": {}}', r"policy_file tests: must be a list of rules"),
    ("a rule of another form", '{"acls": ["*"]}', r"policy_file acls: must be a list of rules"),
    (
        "owners of another form",
        '{"acls": [], "TagOwners": {"tag:a": "me"}}',
        r"policy_file TagOwners: must name a list",
    ),
    ("no rules at all", '{"groups": {}}', r"must have `acls` or `grants`.*cut off unasked"),
    (
        "a tag without owner",
        rules(allow("tag:build", "*:443")),
        r"acls\[0\]\.src\[0\]: uses tag:build, which has no owner",
    ),
    ("a tag without owner, in ssh", rules(ssh='[{"dst": ["tag:nas"]}]'), r"ssh\[0\]\.dst\[0\]: uses tag:nas"),
    ("a tag without owner, as owner", rules(tagOwners='{"tag:a": ["tag:b"]}'), r"tagOwners\.tag:a\[0\]: uses tag:b"),
    (
        "another owner of ours",
        rules(tagOwners='{"tag:home": ["me@x.org"]}'),
        r"tagOwners\.tag:home: gives it to me@x.org",
    ),
    ("nobody as owner of ours", rules(tagOwners='{"tag:ci": []}'), r"tagOwners\.tag:ci: gives it to nobody"),
    ("allow all", rules(allow("*", "*:*")), r"acls\[0\]: must not let tag:gateway reach tag:home:22 and \d\d more"),
    (
        "home's SSH for the gateway",
        rules(allow("autogroup:member", "*:*"), allow("tag:gateway", "tag:home:20-25")),
        r"acls\[1\]: must not let tag:gateway reach tag:home:22\.",
    ),
    ("home's API for the gateway", rules(allow("tag:gateway", "tag:home:80,6443")), r"reach tag:home:6443\."),
    ("the ingress for CI", rules(allow("autogroup:tagged", "*:80")), r"must not let tag:ci reach tag:home:80\."),
    (
        "the gateway for home",
        rules(allow("tag:home", "tag:gateway:*")),
        r"must not let tag:home reach tag:gateway:1055 ",
    ),
    ("an old spelling", rules('{"Action": "accept", "Users": ["*"], "Ports": ["*:22"]}'), r"reach tag:home:22"),
    (
        "a grant",
        rules(grants='[{"src": ["*"], "dst": ["tag:home"], "ip": ["tcp:6443"]}]'),
        r"grants\[0\]: must not let .*6443\.",
    ),
    (
        "a contrary test",
        rules(tests='[{"src": "tag:gateway", "deny": ["tag:home:80"]}]'),
        r"tests\[0\]: must not deny tag:g",
    ),
    (
        "a test of more",
        rules(tests='[{"src": "tag:ci", "accept": ["tag:home:22"]}]'),
        r"tests\[0\]: must not accept tag:ci",
    ),
    (
        "routes of home",
        rules(autoApprovers='{"routes": {"0.0.0.0/0": ["tag:home"]}}'),
        r"autoApprovers\.routes\.0\.0\.0\.0/0\[0\]: must not name tag:home",
    ),
]


@pytest.mark.parametrize(("text", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_file_that_can_not_stand_beside_the_share_is_refused(merged: Merge, text: str | bytes, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        merged(text)
    for line in caught.value.problems:
        assert line.startswith("tailnet.policy_file")
        assert ". Consequence: " in line
        assert ". Fix: " in line


KEPT = {
    "people reach all": rules(allow("autogroup:member", "*:*")),
    "another port of ours": rules(allow("tag:gateway", "tag:home:8443")),
    "another protocol": rules(allow("*", "*:*", proto="icmp")),
    "an app, no network": rules(grants='[{"src": ["*"], "dst": ["*"], "app": {"example.com/a": []}}]'),
    "a grant of UDP": rules(grants='[{"src": ["*"], "dst": ["*"], "ip": ["udp:*"]}]'),
    "the same owners": rules(tagOwners='{"tag:home": ["autogroup:admin"]}'),
    "the same test": rules(tests='[{"src": "tag:gateway", "accept": ["tag:home:80"]}]'),
    "what only Tailscale can resolve": rules(allow("100.64.0.1", "group:x:22"), hosts='{"a": "100.64.0.1"}'),
}


@pytest.mark.parametrize("case", KEPT)
def test_a_file_that_says_nothing_against_the_share_is_taken(merged: Merge, case: str) -> None:
    users = json.loads(KEPT[case])
    found = merged(KEPT[case])
    for name in ("acls", "grants", "tests"):
        assert found.get(name, [])[: len(users.get(name, []))] == users.get(name, [])


def test_all_problems_of_a_file_are_shown_at_once(merged: Merge) -> None:
    with pytest.raises(SettingsError) as caught:
        merged(rules(allow("*", "*:*"), allow("tag:a", "tag:b:1"), tagOwners='{"tag:home": []}'))
    assert len(caught.value.problems) == 4


def test_the_merged_policys_own_rules_pass_its_tests(settings_of: Make) -> None:
    """The evaluator of the refusals, on the rules and tests that it guards."""
    for nodes in (1, 2):
        alone = policy(settings_of(tailnet={"owners": ["me@example.com"]}, home={"nodes": nodes}))
        for row in alone["tests"]:
            by = row.get("proto", "tcp")
            for verdict in ("accept", "deny"):
                for target in row.get(verdict, ()):
                    opened = any(reach.opens(rule, row["src"], target, by) for rule in alone["acls"])
                    assert opened == (verdict == "accept"), (row["src"], target)


@pytest.mark.parametrize(
    ("tailnet_settings", "told"),
    [
        ({"policy_file": "none.hujson"}, "none.hujson: No such file"),
        ({"policy_file": "."}, "Is a directory"),
    ],
)
def test_a_file_that_is_not_there_is_refused(settings_of: Make, tailnet_settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        merge.require_mergeable(settings_of(tailnet=tailnet_settings))


@pytest.mark.parametrize(
    ("tailnet_settings", "told"),
    [
        ({"policy_file": "/etc/policy.hujson"}, "tailnet.policy_file: "),
        ({"policy_file": "p", "policy_owner": False}, "tailnet.policy_file: only for the stack with"),
        (
            {"reset_policy_on_destroy": True, "policy_owner": False},
            "tailnet.reset_policy_on_destroy: only for the stack",
        ),
    ],
)
def test_settings_of_the_policy_belong_to_its_owner(
    settings_of: Make, tailnet_settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        settings_of(tailnet=tailnet_settings)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (rules(allow("autogroup:member", "*:*")), "acls[0] lets autogroup:member reach tag:gateway"),
        (rules(allow("bob@x.org", "tag:gateway:9000-9200")), "acls[0] lets bob@x.org reach"),
        (rules(allow("autogroup:member", "*:22")), ""),
        (rules(allow("autogroup:member", "autogroup:self:*")), ""),
        (rules(grants='[{"src": ["group:ops"], "dst": ["*"], "ip": ["*"]}]'), "grants[0] lets group:ops reach"),
    ],
)
def test_people_who_reach_the_gateway_but_for_its_shields_are_named(
    settings_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setattr(own_file, "ROOT", tmp_path)
    (tmp_path / "policy.hujson").write_text(text)
    found = merge.shielded_alone(settings_of(tailnet={"policy_file": "policy.hujson"}))
    assert bool(found) == bool(told)
    assert all(told in line and "--shields-up" in line for line in found)
    assert not merge.shielded_alone(settings_of()), "this stack's own policy lets nobody in"
