"""Typed configuration: YAML plus dotted overrides, validated with messages that say what to do.

Each subject defines its own `Section` beside the code that reads it; a job composes them into one
configuration, and the resolved result is stored with the job's output.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import ConfigError
from pipeline.redact import redact
from pipeline.words import did_you_mean

_FIELD = re.compile(r"\w+(\.\w+)*")


class Section(BaseModel):
    """Base of all configuration classes: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Config = TypeVar("Config", bound=Section)


def load_config(
    cls: type[Config],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    base: dict[str, Any] | None = None,
) -> Config:
    """Builds a configuration from its defaults, a YAML file and dotted overrides, the later winning.

    Args:
        cls: The configuration class.
        path: A YAML file, or the name of one that comes with Facet; None: the defaults.
        overrides: Strings like "detect.mode=paper"; values are read as YAML.
        base: Plain values to take in place of the defaults.

    Raises:
        ConfigError: The file cannot be read, or a field is unknown or has a wrong value. The message
            names every such field.
    """
    values = base or {}
    if path is not None:
        values = _merged(values, _read_file(path))
    for override in overrides:
        values = _merged(values, _read_override(override))
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, cls)) from error


def dump_config(config: Section) -> str:
    """Returns the resolved configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error: of two sections one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} stands twice", problem_mark=key.start_mark)
            seen.append(key.value)
        return super().construct_mapping(node, deep)


def shipped_configs() -> dict[str, Path]:
    """Returns the configurations that come with Facet, by name: in a checkout `configs/`."""
    package = Path(__file__).resolve().parent
    packed = package / "_data" / "configs"
    folder = packed if packed.is_dir() else package.parent / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def _read_file(path: str | Path) -> dict[str, Any]:
    shipped = shipped_configs()
    if not Path(path).exists() or (Path(path).is_dir() and str(path) in shipped):
        if str(path) not in shipped:
            hint = did_you_mean(str(path), shipped)
            raise ConfigError(
                f"Cannot read the configuration {path}: there is no such file.{hint} "
                f"Those that come with Facet go by name: {', '.join(shipped)}."
            )
        path = shipped[str(path)]
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, _Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error}.") from error
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())  # one line
        raise ConfigError(f"The configuration {path} is not valid: {reason}.") from error
    if not isinstance(values, dict | None):
        raise ConfigError(f"{path} must hold fields at its top level, like 'detect: {{mode: dlib}}'.")
    return values or {}


def _read_override(override: str) -> dict[str, Any]:
    field, equals, text = override.partition("=")
    if not (equals and _FIELD.fullmatch(field)):
        raise ConfigError(f"Override {override!r} must look like section.field=value.")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        # Not the whole error: it repeats the value, which may be secret.
        reason = getattr(error, "problem", None) or "it is no YAML"
        raise ConfigError(f"The value of {field} is not valid: {reason}. Put text in quotes.") from error
    for name in reversed(field.split(".")):
        value = {name: value}
    return value


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = _merged(result[name], value) if both else value
    return result


def _explain(error: ValidationError, cls: type[Section]) -> str:
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _siblings(cls, problem["loc"])
            hint = did_you_mean(str(problem["loc"][-1]), known)
            lines.append(f"{field}: no such field.{hint} Known here: {', '.join(known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = f" (got {redact(repr(problem['input']))})" if field else ""  # else the whole configuration
            lines.append(f"{field}: {message}{got}".removeprefix(": "))
    return "The configuration is not valid. " + "; ".join(lines) + "."


def _siblings(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    fields = cls.model_fields
    for part in location[:-1]:
        annotation = fields[str(part)].annotation if str(part) in fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        fields = annotation.model_fields
    return list(fields)
