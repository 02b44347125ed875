"""The README says what is so: its tables, commands, options and links."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow as pa
import pytest

from jobs.cli import COMMANDS
from pipeline import errors
from pipeline.config import load_config
from pipeline.normals.encoding import SIGNS
from pipeline.recipes import NAMES, load_recipe
from pipeline.recipes.face_record import FACE, SCHEMA
from pipeline.recipes.normals import NormalsRun
from pipeline.run.records import ERROR_CODES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
FILES = sorted(set(re.findall(r"(?:configs|pipeline|weights|tests)/[\w./-]*\w", README)))
RECIPE_CODES = {code for name in NAMES for code in load_recipe(name).record.codes}
FACET_LINES = [line for line in SHELL.splitlines() if line.startswith("facet ")]


def test_there_is_something_to_check():
    assert len(FACET_LINES) > 8


def _type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "struct"
    if pa.types.is_fixed_size_list(kind):
        return f"list of {kind.list_size} {_type(kind.value_type)}"
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    return {"float": "float32"}.get(str(kind), str(kind))


def _row(field: pa.Field, prefix: str = "") -> str:
    return f"| `{prefix}{field.name}` | {_type(field.type)} | {field.metadata[b'description'].decode()} |"


def test_the_table_of_records_is_the_schema():
    rows = [_row(field) for field in SCHEMA]
    for field in FACE:
        rows.append(_row(field, "faces[]."))
        if pa.types.is_struct(field.type):
            rows += [_row(inner, f"faces[].{field.name}.") for inner in field.type]
    (table,) = re.findall(r"<!-- records -->\n(.*?)<!-- /records -->", README, re.DOTALL)
    assert table.splitlines() == rows


@pytest.mark.parametrize("line", FACET_LINES)
def test_commands_can_be_parsed(line):
    words = shlex.split(line, comments=True)[1:]
    assert words[0] in COMMANDS
    command = importlib.import_module(f"jobs.{words[0]}").command
    arguments = words[1:]
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(words[0], arguments)


def test_options_are_those_of_the_command():
    command = importlib.import_module("jobs.normals").command
    choices = {
        option: list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else None
        for parameter in command.params
        for option in parameter.opts
    }
    named = {}
    for first in re.findall(r"^\| (`--[^|]*) \|", README, re.MULTILINE):
        for option, value in re.findall(r"`(--[a-z-]+) ?([^`]*)`", first):
            named[option] = value
            if known := choices[option]:
                listed = [value, *re.findall(r", `([^`-]+)`", first)]
                assert sorted(listed) == sorted(known) or option == "--convention"
    assert set(named) == {option for option in choices if option.startswith("--")}


@pytest.mark.parametrize("override", sorted(set(re.findall(r"--set ([a-z_]+\.[a-z_.]+=[^`\s]+)", README))))
def test_overrides_are_fields(override):
    load_config(NormalsRun, overrides=[override])


@pytest.mark.parametrize("convention", SIGNS)
def test_every_convention_is_in_the_table(convention):
    assert re.search(rf"^\| `{convention}`", README, re.MULTILINE)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_lead_somewhere(target):
    if not target.startswith("https://"):
        assert (ROOT / target).exists()


@pytest.mark.parametrize("path", FILES)
def test_files_that_are_named_are_there(path):
    assert (ROOT / path).exists()


def test_codes_are_those_of_the_code():
    (table,) = re.findall(r"<!-- codes -->\n(.*?)<!-- /codes -->", README, re.DOTALL)
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert set(named) == {*RECIPE_CODES, "no_face", *ERROR_CODES}
    assert len(named) == len(set(named))


def test_codes_of_photos_are_all_listed():
    listed = {*RECIPE_CODES, *ERROR_CODES}
    raised = {
        code
        for path in (ROOT / "pipeline").rglob("*.py")
        for code in codes_of_photos(ast.parse(path.read_text("utf-8")))
    }
    assert raised <= listed


def codes_of_photos(module: ast.Module) -> Iterator[str]:
    """Codes that a module gives to errors of single photos, as literals."""
    of_photos = {name for name, kind in vars(errors).items() if is_error_of_photos(kind)}
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in of_photos:
            given = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "code")]
            yield from (code.value for code in given if isinstance(code, ast.Constant))
            if not given:
                yield getattr(errors, call.func.id).code


def is_error_of_photos(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, errors.ImageError)
