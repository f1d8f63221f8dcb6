"""`reindex` and `config check`: putting things right, and seeing that they are."""

from typing import Annotated

import typer

from modelwarden.cli.options import Archive, Config, settings_for_asking
from modelwarden.cli.tables import print_table
from modelwarden.service.config import load_settings, others_can_read
from modelwarden.service.wiring import destinations_of, open_pipeline, policy_of, state_dir_of

config_commands = typer.Typer(help="The settings.", no_args_is_help=True)


def reindex(config: Config = None, archive: Archive = None) -> None:
    """Make index.json and the catalog again."""
    settings = settings_for_asking(config, archive)
    with open_pipeline(settings, announces=False) as pipeline:
        pipeline.rebuild()
        typer.echo(f"{len(pipeline.archive)} runs in {pipeline.archive.root}/index.json and in the catalog")


@config_commands.command("check")
def config_check(
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help="As with --config.")] = None,
    config: Config = None,
) -> None:
    """Say whether the settings are right, and what they come to. Exit code 2 where they are wrong."""
    settings, path = load_settings(file or config)
    destinations_of(settings)
    policy = policy_of(settings)
    if others_can_read(path, settings):
        typer.echo(f"modelwarden: {path}: holds a URL and everybody can read it: chmod 640", err=True)
    typer.echo(f"{path or 'no file: defaults and environment'}: right")
    print_table(
        ("setting", "value"),
        [
            *(("watch", f"{each.path} ({', '.join(each.patterns)})") for each in settings.watch),
            ("archive_dir", settings.archive_dir),
            ("state_dir", state_dir_of(settings.archive_dir, settings.state_dir)),
            ("policy", policy.id),
            *(("destination", f"{each.name}: {', '.join(each.on)}") for each in settings.notify.destination),
        ],
    )
