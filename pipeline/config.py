"""Typed configuration: YAML plus dotted overrides, validated with messages that say what to do.

Each subject defines its own `Section` beside the code that reads it; a job composes them into one
configuration, and the resolved result is stored with the job's output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import ConfigError
from pipeline.redact import redact

_OVERRIDE = re.compile(r"[\w-]+([.][\w-]+|\[[\w-]+\])*=")


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
        path: A YAML file, or None for the defaults.
        overrides: Strings like "detect.mode=seed"; values are read as YAML.
        base: Plain values to take in place of the defaults.

    Raises:
        ConfigError: The file cannot be read, or a field is unknown or has a wrong value. The message
            names every such field.
    """
    try:
        merged: Any = OmegaConf.create({})
        if path is not None:
            loaded = OmegaConf.load(path)
            if not OmegaConf.is_dict(loaded):
                raise ConfigError(f"{path} must hold fields at its top level, like 'detect: {{mode: fast}}'.")
            merged = loaded
        for override in overrides:
            if not _OVERRIDE.match(override):
                raise ConfigError(f"Override {override!r} must look like section.field=value.")
        merged = OmegaConf.merge(merged, OmegaConf.from_dotlist(list(overrides)))
        values: Any = OmegaConf.to_container(merged, resolve=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error}.") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())  # one line
        raise ConfigError(f"The configuration {path or list(overrides)} is not valid: {reason}") from error
    try:
        return cls.model_validate(_merged(base or {}, values))
    except ValidationError as error:
        raise ConfigError(_explain(error, cls)) from error


def dump_config(config: Section) -> str:
    """Returns the resolved configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    # Not by OmegaConf, which would look for references in the values below.
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
            lines.append(f"{field}: no such field; known here: {', '.join(_siblings(cls, problem['loc']))}")
        else:
            lines.append(f"{field}: {problem['msg']} (got {redact(repr(problem['input']))})")
    return "The configuration is not valid. " + "; ".join(lines) + "."


def _siblings(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    fields = cls.model_fields
    for part in location[:-1]:
        annotation = fields[str(part)].annotation if str(part) in fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        fields = annotation.model_fields
    return list(fields)
