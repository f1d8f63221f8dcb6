"""`config`: the settings checked, shown, explained and begun.

The rule: nothing here opens an archive or a state, and no URL is printed.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from modelwarden.cli.answers import print_answer, print_json
from modelwarden.cli.beginning import config_init
from modelwarden.cli.lines import complain
from modelwarden.cli.options import Archive, Config, Json
from modelwarden.cli.screen import visible
from modelwarden.cli.tables import print_table
from modelwarden.config import exposed, load_settings, sources, watched_twice
from modelwarden.config.model import WatchTable
from modelwarden.config.places import state_dir_of
from modelwarden.config.schema import example_text, settings_schema
from modelwarden.filesystems import show_path
from modelwarden.gate.policy import DEFAULT_NAME, Policy

config_commands = typer.Typer(
    help="""The settings: check them, show them, begin with an example.

    Example: modelwarden config check config.toml
    """,
    no_args_is_help=True,
)


@config_commands.command("check")
def config_check(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="As with --config.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say whether the settings are right, and what they come to.

    Exit code 2 if they are wrong.

    Example: modelwarden config check config.toml
    """
    from modelwarden.wiring.destinations import UNENCRYPTED_HINT, destinations_of  # noqa: PLC0415 - this one alone
    from modelwarden.wiring.policies import policies_of  # noqa: PLC0415 - likewise

    settings, path = load_settings(file or config, urls="all", asks_apprise=True)
    destinations = destinations_of(settings)
    policies = policies_of(settings)
    for each in exposed(path, settings):
        mend = shlex.join(("chmod", "640", show_path(each)))
        complain(f"modelwarden: {show_path(each)}: holds a URL and everybody can read it: {mend}")
    for destination in destinations:
        if destination.goes_unencrypted():
            typer.echo(f'modelwarden: destination "{destination.name}": {UNENCRYPTED_HINT}', err=True)
    for inner, outer in watched_twice(settings):
        typer.echo(f"modelwarden: {show_path(inner)}: also watched as a part of {show_path(outer)}", err=True)
    state_dir = state_dir_of(settings.archive_dir, settings.state_dir)
    if as_json:
        print_answer(
            settings=show_path(path) if path else "defaults and the environment",
            watches=[
                {
                    "folder": show_path(each.path),
                    "patterns": each.patterns,
                    "format": each.format,
                    "policy_name": each.policy,
                }
                for each in settings.watch
            ],
            archive=show_path(settings.archive_dir),
            state=show_path(state_dir),
            policies=[{"policy": each.id, "policy_name": each.name} for each in policies.by_name.values()],
            destinations=[{"destination": each.name, "on": each.on} for each in settings.notify.destination],
        )
        return
    typer.echo(f"{show_path(path) if path else 'no file: defaults and environment'}: right")
    print_table(
        ("setting", "value"),
        [
            *(("watch", _watched(each)) for each in settings.watch),
            ("archive_dir", settings.archive_dir),
            ("state_dir", state_dir),
            *(("policy", _called(policy)) for policy in policies.by_name.values()),
            *(("destination", f"{each.name}: {', '.join(each.on)}") for each in settings.notify.destination),
        ],
    )


def _called(policy: Policy) -> str:
    return policy.id if policy.name == DEFAULT_NAME else f"{policy.id} ({policy.name})"


def _watched(table: WatchTable) -> str:
    policy = "" if table.policy == DEFAULT_NAME else f', judged by "{table.policy}"'
    read = "" if table.format is None else f', read as "{table.format}"'
    return f"{table.path} ({', '.join(table.patterns)}){read}{policy}"


@config_commands.command("example")
def config_example() -> None:
    """Print a config file that explains every setting.

    Example: modelwarden config example > config.toml
    """
    typer.echo(example_text(), nl=False)


config_commands.command("init")(config_init)


@config_commands.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of a config file, for editors.

    With it they complete what is typed, and mark what is wrong. Put `#:schema /path/to/schema.json` into the config
    file's first line.

    Example: modelwarden config schema > modelwarden.schema.json
    """
    print_json(settings_schema())


@config_commands.command("show")
def config_show(config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """Print the settings as they count, and where each comes from.

    All of them, as TOML. Defaults and the environment are included; URLs are masked.

    Example: modelwarden config show
    """
    settings, path = load_settings(config, archive=archive)
    document = settings.model_dump(mode="json")  # a secret's dump is its mask
    source_of = sources(config, archive=archive)
    if as_json:
        print_answer(**document, sources=dict(_places(document, source_of)))
        return
    typer.echo(f"# {show_path(path)}, the environment and defaults" if path else "# the environment and defaults")
    for line in as_toml(document, source_of=source_of):
        typer.echo(line)


_BARE_KEY: Final = re.compile("[A-Za-z0-9_-]+")


Place = tuple[str | int, ...]


def _places(
    table: Mapping[str, Any], source_of: Callable[[Place], str], place: Place = ()
) -> Iterator[tuple[str, str]]:
    """Every setting with where it comes from; what is not set is left out."""
    for key, value in table.items():
        here = (*place, key)
        if isinstance(value, dict):
            yield from _places(value, source_of, here)
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            for number, each in enumerate(value):
                yield from _places(each, source_of, (*here, number))
        elif value is not None:
            yield ".".join(map(str, here)), source_of(here)


def as_toml(
    table: Mapping[str, Any], name: str = "", *, place: Place = (), source_of: Callable[[Place], str] | None = None
) -> Iterator[str]:
    """A table as lines of TOML: its own values first, as TOML wants it. What is not set is left out.

    Args:
        table: its values by key.
        name: what its heading calls it.
        place: where it stands.
        source_of: where the value of a place comes from, for a comment behind it.
    """
    tables: list[tuple[str, str, Place, Any]] = []
    for key, value in table.items():
        here: Place = (*place, key)
        key = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)  # noqa: PLW2901 - as TOML has it
        path = f"{name}.{key}" if name else key
        if isinstance(value, dict):
            tables.append((path, f"[{path}]", here, value))
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            tables += [(path, f"[[{path}]]", (*here, number), each) for number, each in enumerate(value)]
        elif value is not None:
            # JSON's texts, numbers and lists are TOML's too, but for one character.
            source = "" if source_of is None else f"  # {visible(source_of(here))}"
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f") + source
    for path, heading, inside, inner in tables:
        yield f"\n{heading}"
        yield from as_toml(inner, path, place=inside, source_of=source_of)
