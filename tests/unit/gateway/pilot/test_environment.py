"""The pilot's settings: a sentence for each variable that is missing or wrong."""

import math

import pytest

from components.gateway.pilot.environment import Further, SettingsError, settings

ENV = {
    "PILOT_LISTEN": "127.0.0.1:9182",
    "PILOT_CHECKS": "127.0.0.1:9180",
    "PILOT_ADMIN_SOCKET": "/admin.sock",
    "PILOT_ID_TOKEN": "/id-token",
    "PILOT_LINE": "/line",
    "BURST_URL": "https://burst-abc.a.run.app",
    "HOME_ADDRESS": "home:80",
    "SOCKS5": "127.0.0.1:1055",
    "HOME_HOST": "llm",
    "HOME_DIAL": "home:80",
    "BURST_DIAL": "127.0.0.1:9181",
    "VM_DIAL": "10.0.0.2:9931",
    "HOME_FURTHER": "",
    "BURST_FURTHER": "2*127.0.0.1:09181=16 3*127.0.0.1:009181=16",
    "VM_FURTHER": "",
    "HOME_CAPACITY": "8",
    "HOME_FULL": "8",
    "BURST_CAPACITY": "16",
    "VM_CAPACITY": "4",
    "HOME_SECONDS": "short=0.1 long=0.4 picture=0.6 answer=1.88",
    "BURST_SECONDS": "short=0.15 long=0.6 picture=1.03 answer=3.75",
    "VM_SECONDS": "short=23 long=91 picture=113 answer=23.1",
    "BURST_START_S": "70",
    "VM_PROMPT": "13.2 7.1",
    "VM_STUCK_S": "78",
    "PILOT_TIMEOUT_S": "300",
    "PILOT_WAKE": "pressure",
    "PILOT_IDLE_S": "600",
    "PILOT_WAKE_DEADLINE_S": "120",
    "PILOT_RETRY_S": "60",
    "PILOT_SLOW_S": "2.5",
    "PILOT_RECOVERED_S": "1",
    "TAILSCALED_SOCKET": "/run/pilotlight/tailscaled.sock",
}


def test_environment_is_read() -> None:
    found = settings(ENV)
    assert found.listen == ("127.0.0.1", 9182)
    assert found.metadata == ("metadata.google.internal", 80)
    assert found.checks == ("127.0.0.1", 9180)
    assert found.dials == {"home": "home:80", "burst": "127.0.0.1:9181", "vm": "10.0.0.2:9931"}
    assert found.places("burst") == ["127.0.0.1:9181", "127.0.0.1:09181", "127.0.0.1:009181"]
    assert found.further["burst"][1] == Further(3, "127.0.0.1:009181", 16)
    assert (found.further["vm"], found.places("vm")) == ((), ["10.0.0.2:9931"])
    assert found.declared.paces["vm"].first_s["long"] == 91
    assert (found.declared.paces["home"].capacity, found.declared.paces["home"].answer_s) == (8, 1.88)
    assert found.vm_prompt == (13.2, 7.1)
    assert settings(ENV | {"HOME_FURTHER": "2*home:080=8", "HOME_FULL": "6 12"}).home_full == (6, 12)
    assert {lane: policy.slow_s for lane, policy in found.policies.items()} == {
        "home": 23.75,
        "burst": 2.5,
        "vm": math.inf,
    }
    assert {lane: policy.stuck_s for lane, policy in found.policies.items()} == {"home": 3, "burst": 3, "vm": 78}
    assert [lane for lane, policy in found.policies.items() if policy.sleeps] == ["burst"]
    assert (found.policies["vm"].slots, found.policies["home"].slots) == (4, 0)
    unwatched = settings(ENV | {"HOME_HOST": "", "VM_STUCK_S": ""})
    assert [lane for lane, policy in unwatched.policies.items() if policy.watched] == ["burst"]
    assert settings(ENV | {"VM_SECONDS": ""}).policies["home"].slow_s == 2.5
    unknown = settings(ENV | {"VM_SECONDS": "", "VM_PROMPT": ""})
    assert (list(unknown.declared.paces), unknown.vm_prompt) == (["home", "burst"], None)
    assert settings(ENV | {"HOME_ADDRESS": "", "HOME_DIAL": ""}).home is None
    assert settings(ENV | {"GCE_METADATA_HOST": "127.0.0.1:81"}).metadata == ("127.0.0.1", 81)


@pytest.mark.parametrize("name", sorted(ENV))
def test_missing_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not set; it must be [^;]+$"):
        settings({key: value for key, value in ENV.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PILOT_LISTEN", "9182"),
        ("PILOT_LISTEN", "127.0.0.1:x"),
        ("PILOT_ADMIN_SOCKET", "/nowhere/at/all/admin.sock"),
        ("PILOT_ID_TOKEN", ""),
        ("PILOT_CHECKS", "9180"),
        ("BURST_URL", "burst-abc.a.run.app"),
        ("BURST_URL", "https://burst-abc.a.run.app/v1"),
        ("BURST_DIAL", ""),
        ("BURST_FURTHER", "127.0.0.1:09181=16"),
        ("BURST_FURTHER", "2*9181=16"),
        ("VM_FURTHER", "2*10.0.0.2:09931"),
        ("HOME_FULL", ""),
        ("HOME_FULL", "8 16"),
        ("HOME_FULL", "8 x"),
        ("HOME_FURTHER", "2*home:080=8"),
        ("VM_CAPACITY", "-1"),
        ("HOME_SECONDS", "short=0.1 long=0.4 picture=0.6"),
        ("BURST_SECONDS", "short=0.1 long=0.4 picture=0 answer=1"),
        ("VM_SECONDS", "23"),
        ("VM_PROMPT", "fast"),
        ("VM_STUCK_S", "0"),
        ("VM_PROMPT", "13.2"),
        ("VM_PROMPT", "13.2 0"),
        ("PILOT_WAKE", "always"),
        ("PILOT_IDLE_S", "0"),
        ("PILOT_IDLE_S", "nan"),
        ("PILOT_SLOW_S", "2s"),
        ("PILOT_RECOVERED_S", "3"),
    ],
)
def test_wrong_setting_is_named(name: str, value: str) -> None:
    told = "HOME_FULL" if name == "HOME_FURTHER" else name
    with pytest.raises(SettingsError, match=f"^{told} is "):
        settings(ENV | {name: value})
