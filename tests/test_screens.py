"""The page of commands and the picture of a terminal are what the commands print."""

import re

from modelwarden.__main__ import COMMANDS, HIDDEN
from screens import PAGE, PICTURE, SHOWN, page, picture, place


def test_page_of_commands_is_what_they_print() -> None:
    """Every block, made again; `python tests/screens.py` writes it."""
    with place() as folder:
        made = page(folder)
        assert made == PAGE.read_text(encoding="utf-8")
        drawn = picture(folder)
    assert words_of(drawn) == words_of(PICTURE.read_text(encoding="utf-8"))


def words_of(svg: str) -> list[str]:
    """What the picture says; how it is drawn is rich's."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_every_command_is_shown() -> None:
    """None is left out, nor a group's."""
    shown = {each.command.split()[0] for each in SHOWN}
    assert shown == set(COMMANDS) - HIDDEN
