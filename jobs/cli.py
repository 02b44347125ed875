"""The `facet` command: one subcommand per module of this folder."""

import importlib
from typing import Any

import click

from jobs import entry
from pipeline.words import did_you_mean

COMMANDS = {
    "normals": "Surface normals of every face in a folder or a bucket of photos.",
    "details": "Heads with their wrinkles: proxy, texture, displacement and normal maps, meshes.",
    "multiview": "One head for the photos of each person, a mesh per photo.",
    "export": "The heads of a run as GLB, OBJ and PLY files.",
    "plan": "List the input of a run and say what the run will take.",
    "status": "Say how far a run is.",
    "report": "Draw the report of a run, or a sheet of the photos and faces that meet conditions.",
    "errors": "List the photos of a run that have no result, and why.",
    "retry": "Try photos of a run again that failed.",
    "validate": "Check what a run has written, and clear what is not sound.",
    "synth": "Render labelled faces for training.",
    "train": "Train a network on paired and unpaired images and normals.",
    "evaluate": "Score weights on labelled data.",
    "weights": "List, show, verify, import, add and export weights.",
    "assets": "Show and verify the models of others that Facet uses.",
    "dataset": "Convert folders of images and normals to training data.",
    "bench": "Measure the speed of every stage on this machine.",
}
"""Subcommand -> its line in the help. Module `jobs.NAME` holds `command`, a click command or group."""


class LazyGroup(click.Group):
    """Imports a job's module only when its subcommand runs, so that `facet --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"jobs.{cmd_name}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"There is no command {name}.{did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def main() -> None:
    """Runs the command line."""
    entry.run(
        LazyGroup(
            "facet",
            help="Face geometry for a whole bucket of photos. `facet COMMAND --help` explains a command; "
            "`--debug` shows the traceback of an error.",
            no_args_is_help=True,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
    )


if __name__ == "__main__":
    main()
