"""An image made without a container engine: a Containerfile's instructions, performed in root file systems of our own.

The rule: each instruction is done as it stands there or the test fails; one that nobody taught this module fails, too.
"""

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rigs.debian import debian, do_in

BASE: Final = "docker.io/library/debian:12-slim"
"""The one base that is played: a Debian 12 with nothing but what is essential."""

IGNORED: Final = frozenset({"STOPSIGNAL"})
"""What is only for an engine to remember."""

_LISTS: Final = {"VOLUME": "volumes", "ENTRYPOINT": "entrypoint", "CMD": "arguments"}
"""Instructions whose words are kept as they are."""


@dataclass
class Image:
    """What a Containerfile comes to.

    Attributes:
        root: its files.
        environment: what ENV set.
        user: who runs in it.
        folder: where.
        volumes: folders that are mounted over.
        entrypoint: the command.
        arguments: its arguments if whoever starts it gives none.
        healthcheck: the command that asks whether it is well.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    volumes: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    arguments: Sequence[str] = ()
    healthcheck: Sequence[str] = ()


@contextmanager
def built_image(file: Path, context: Path, folder: Path) -> Iterator[Image]:
    """The image of a Containerfile's last stage; gone at the end.

    Args:
        file: the Containerfile.
        context: the folder that COPY copies from.
        folder: where the stages are made.
    """
    stages: dict[str, Image] = {}
    with ExitStack() as stack:
        image: Image | None = None
        for word, rest in instructions(file.read_text(encoding="utf-8")):
            if word == "FROM":
                base, *name = rest.split()
                assert base == BASE, f"FROM {base} is not played"
                place = folder / f"stage-{len(stages)}"
                image = Image(stack.enter_context(debian(place, checkout=False, is_slim=True)))
                stages[name[1] if name else ""] = image
            else:
                assert image is not None, f"{word} before FROM"
                _perform(word, rest, image, stages, context)
        assert image is not None
        yield image


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction and what follows it, with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _perform(word: str, rest: str, image: Image, stages: Mapping[str, Image], context: Path) -> None:
    match word:
        case "RUN":
            assert image.user == "0:0", "RUN as another user is not played"
            options = [f"--setenv={name}={value}" for name, value in image.environment.items()]
            do_in(image.root, f"cd {image.folder}; exec /bin/sh -c {shlex.quote(rest)}", *options, seconds=600)
        case "COPY":
            _copy_all(shlex.split(rest), image, stages, context)
        case "ENV":
            image.environment |= dict(each.split("=", 1) for each in shlex.split(rest))
        case "USER":
            image.user = rest
        case "WORKDIR":
            image.folder = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "VOLUME" | "ENTRYPOINT" | "CMD":
            setattr(image, _LISTS[word], json.loads(rest))
        case "HEALTHCHECK":
            image.healthcheck = json.loads(rest.partition("CMD ")[2])
        case _:
            assert word in IGNORED, f"{word} is not played"


def _copy_all(words: Sequence[str], image: Image, stages: Mapping[str, Image], context: Path) -> None:
    *sources, target = words
    below = context
    if sources[0].startswith("--from="):
        below = stages[sources.pop(0).removeprefix("--from=")].root
    for source in sources:
        _copy(below / source.lstrip("/"), image.root, target)


def _copy(source: Path, root: Path, target: str) -> None:
    """A file into a folder, or under a name; a folder's contents into a folder. All of it becomes root's."""
    place = root / target.lstrip("/")
    if source.is_dir():
        shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
    else:
        place = place / source.name if target.endswith("/") else place
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
