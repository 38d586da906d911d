"""The command line: what each command does is in ``commands``."""

from __future__ import annotations

from typing import Annotated

import typer

from .commands import keys, models, prune, schema, serve, transfer
from .version import __version__

cli = typer.Typer(
    name="assistants-server",
    help="OpenAI's Assistants API v2 on your own machine, in front of any Chat Completions model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(serve.serve)
cli.add_typer(keys.cli, name="keys")
cli.add_typer(models.cli, name="models")
cli.command("export")(transfer.export_objects)
cli.command("import")(transfer.import_objects)
cli.command()(schema.migrate)
cli.command()(prune.prune)
cli.command("pull-model")(models.pull_model)


def main() -> None:
    cli(prog_name="assistants-server")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"assistants-server {__version__}")
        raise typer.Exit


@cli.callback()
def _all_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
