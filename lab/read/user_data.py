"""What a machine does at boot, read from its user data: the container that one of its units starts.

Owns: cloud-init's files, and docker's options. Does not own: the machine around them (`vm`), the program that stands in
for the container's image (`images`).
"""

import re
import shlex
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml

from lab.errors import LabError
from lab.read import images
from lab.read.container import Mount

_RUN: Final = "ExecStart=/usr/bin/docker run "
BOOT_ID: Final = "<boot-id>"
"""In the place of systemd's `%b`: each start of a machine has one of its own."""
_SPECIFIER: Final = re.compile(r"%(.?)")
_DRIVER: Final = re.compile(r"\bcos-extensions install gpu\b")
_CARD: Final = re.compile(r"/dev/nvidia\d+")
_BEFORE: Final = re.compile(r"^ExecStartPre=/bin/(?:ba)?sh (\S+)$", re.MULTILINE)
_CLOSING: Final = ("DOCKER-USER", "INPUT", "REJECT")
"""What the container's packets pass on their way out and to the machine, and what becomes of them there."""


@dataclass(frozen=True)
class Boot:
    """The container, the port that it opens on the machine, and what it gets of a graphics card."""

    image: str
    arguments: tuple[str, ...]
    env: dict[str, str]
    mounts: tuple[Mount, ...]
    port: int
    cards: int
    """Devices of graphics cards that docker hands on."""
    driver: bool
    """A unit installs the cards' driver."""
    closed: bool
    """Before the container starts, its unit refuses the connections that it would open, to the machine and beyond."""


def read(name: str, user_data: str) -> Boot:
    """The boot of the machine `name`; raises `LabError` on an option of docker's that the lab would pass over."""
    document = cast(dict[str, Any], yaml.safe_load(user_data))
    files = {file["path"]: file["content"] for file in document["write_files"]}
    units = [content for path, content in files.items() if path.endswith(".service")]
    run = [line.partition("=")[2] for unit in units for line in unit.splitlines() if line.startswith(_RUN)]
    if len(run) != 1:
        raise LabError(f"{name}: {len(run)} units start a container, the lab runs exactly one")
    line = _SPECIFIER.sub(lambda found: _specified(name, found[1]), run[0])
    words = shlex.split(line.replace("$$", "$").replace("\\\\", "\\"))[2:]
    published, mounts, env, cards = list[str](), list[Mount](), dict[str, str](), 0
    while words and words[0].startswith("-"):
        option, equals, value = words.pop(0).partition("=")
        if option == "--rm":
            continue
        if not equals:
            value = words.pop(0) if words else ""
        match option:
            case "--name" | "--dns":
                pass
            case "--publish":
                published.append(value)
            case "--volume":
                mounts.append(Mount(value.split(":")[1], {}))
            case "--env" | "-e":
                key, _, text = value.partition("=")
                env[key] = text
            case "--device":
                cards += bool(_CARD.match(value))
            case _:
                raise LabError(f"{name}: the lab does not understand docker run {option}")
    if not words:
        raise LabError(f"{name}: docker run names no image")
    image, *arguments = words
    return Boot(
        image=image,
        arguments=tuple(arguments),
        env=env,
        mounts=tuple(mounts),
        port=_port(name, published, arguments),
        cards=cards,
        driver=any(_DRIVER.search(unit) for unit in units),
        closed=any(_closes(unit, files) for unit in units if f"\n{_RUN}" in unit),
    )


def _specified(name: str, letter: str) -> str:
    known = {"%": "%", "b": BOOT_ID}
    if letter not in known:
        raise LabError(f"{name}: the lab does not understand systemd's %{letter}")
    return known[letter]


def _closes(unit: str, files: dict[str, str]) -> bool:
    scripts = [files.get(path, "") for path in _BEFORE.findall(unit.partition(f"\n{_RUN}")[0])]
    return any(all(word in script for word in _CLOSING) for script in scripts)


def _port(name: str, published: list[str], arguments: list[str]) -> int:
    """The machine's port that docker opens, if it leads to what the server listens on inside the container."""
    if len(published) != 1:
        raise LabError(f"{name}: docker publishes {len(published)} ports, the lab needs exactly one")
    outer, _, inner = published[0].rpartition(":")
    if not outer.isdigit() or not inner.isdigit():
        raise LabError(f"{name}: the lab understands --publish PORT:PORT, not {published[0]}")
    listening = images.value_of(arguments, "--host") or "127.0.0.1", images.value_of(arguments, "--port") or "8080"
    if listening != ("0.0.0.0", inner):
        raise LabError(
            f"{name}: docker publishes port {inner} of the container, but the server listens on "
            + f"{':'.join(listening)} in it; nobody could reach it"
        )
    return int(outer)
