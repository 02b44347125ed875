"""run.json: what a run is, how far it came, and whether a folder holds the run that is asked for.

Its status is planning (the input is being listed), planned, running, complete, stopped (by Ctrl-C or
SIGTERM) or failed. A run that was killed is left as planning or running, or as overwriting while what was
there before is being removed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pipeline.errors import OutputError
from pipeline.redact import shown_uri
from pipeline.run.counts import Counts
from pipeline.run.plan import Plan
from pipeline.storage.places import local_path
from pipeline.storage.store import SCRATCH, UNFINISHED, Store

if TYPE_CHECKING:
    from pipeline.run.config import RunConfig
    from pipeline.run.recipe import Recipe

KIND = "facet "
"""Beginning of the kind that run.json names; the recipe's name follows."""

NAME = "run.json"
OVERWRITING = "overwriting"
PROBE = "writable"
"""A file that is written and removed to see whether that can be done."""

OWN_NAMES = ("_done", "plan", "records", "files", "heads", "report", SCRATCH, NAME)
"""All that a run makes in its folder, and all that overwriting it removes, in this order: while run.json is
there the folder is known to be a run's, and without markers none of its shards counts."""

PACKAGES = ("facet-face-geometry", "ray", "numpy", "pillow", "pyarrow")
"""Packages whose versions are noted, beside those of the recipe."""

FREE_FIELDS = ("read.storage", "output.report", "engine", "limits", "estimate")
"""Fields that may differ when a run is resumed, beside those of the recipe: they do not change the records of
good photos. Models are compared by their digests."""


def new_state(
    recipe: Recipe, source: str, output: str, limit: int | None, config: RunConfig
) -> dict[str, Any]:
    """Returns the content of run.json for a run that begins.

    Raises:
        FacetError: What the configuration names cannot be had.
    """
    return {
        "kind": KIND + recipe.name,
        "status": "planning",
        # The same however it is written, and from wherever: ids are made of absolute paths.
        "input": _portable(local_path(source) or shown_uri(source).rstrip("/")),
        "limit": limit,
        "output": _portable(shown_uri(output)),
        "started": now(),
        "session_started": now(),
        "session_at_work": None,  # when its first photos were begun
        "ended": None,
        "reported": False,  # whether the report shows all that is done
        "seconds": 0.0,
        "engine": None,
        "models": recipe.models(config),
        "versions": _versions((*PACKAGES, *recipe.packages)),
        "plan": None,
        "notes": [],
        "counts": Counts().to_json(),
        "config": config.model_dump(mode="json"),
    }


def _portable(text: str) -> str:
    """Returns a path as JSON and HTML can hold it: bytes that are not UTF-8 as \\udcXX."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_state(store: Store) -> dict[str, Any] | None:
    """Returns the content of a folder's run.json, None where no run has begun yet.

    Raises:
        OutputError: The folder holds something else.
    """
    names = store.names()
    if not names:
        return None
    try:
        state = json.loads(store.read(NAME))
        is_run = state["kind"].startswith(KIND)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        is_run = False
    if is_run:
        if not {"status", "started"} <= state.keys():
            raise OutputError(f"{store.place(NAME)} is damaged: it does not say how far the run is.")
        return state
    if _begins(store, names):
        return None
    raise OutputError(
        f"{store.url} holds something else than a run ({', '.join(names[:3])}, ...): give the folder of a "
        "run, or an empty one for its output."
    )


def recipe_name(state: dict[str, Any]) -> str:
    """Returns the name of the recipe of a run."""
    return state["kind"].removeprefix(KIND)


def _begins(store: Store, names: list[str]) -> bool:
    """Whether a folder holds but traces of a process that begins just now, or was killed as it began."""
    if not set(names) <= {SCRATCH, PROBE}:
        return False
    return all(name.startswith(UNFINISHED) for name in store.names(SCRATCH))


def write_state(store: Store, state: dict[str, Any]) -> None:
    """Writes run.json."""
    store.write(NAME, json.dumps(state, indent=1, ensure_ascii=False).encode())


def finished(
    state: dict[str, Any], status: str, plan: Plan | None, counts: Counts, seconds: float
) -> dict[str, Any]:
    """Returns the state at the end of a session that took some seconds."""
    return state | {
        "status": status,
        "ended": now(),
        "reported": False,
        "seconds": round(state["seconds"] + seconds, 3),
        "plan": plan_facts(plan) if plan else None,
        "counts": counts.to_json(),
    }


def plan_facts(plan: Plan) -> dict[str, Any]:
    """Returns what run.json says about the plan."""
    names = ("items", "images", "bytes", "shards", "shard_size", "chunk_size", "digest")
    return {name: getattr(plan, name) for name in names} | {"extensions": len(plan.extensions)}


def differences(
    recipe: Recipe, old: dict[str, Any], new: dict[str, Any], allowed: tuple[str, ...] = ()
) -> list[str]:
    """Returns what of a run would change its records, as "field: old -> new"."""
    if old["kind"] != new["kind"]:
        return [f"kind: {old['kind']} -> {new['kind']}"]
    before, after = dict(_identity(recipe, old)), dict(_identity(recipe, new))
    return [
        f"{field}: {before.get(field)} -> {after.get(field)}"
        for field in sorted((before.keys() | after.keys()) - set(allowed))
        if before.get(field) != after.get(field)
    ]


def identity_digest(recipe: Recipe, state: dict[str, Any]) -> str:
    """Returns a digest of all that `differences` compares; a plan holds that of the run that it is for."""
    return hashlib.sha256(json.dumps(list(_identity(recipe, state))).encode()).hexdigest()


def _identity(recipe: Recipe, state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "kind", state["kind"]
    yield "input", state["input"]
    yield "limit", state["limit"]
    for name, model in state["models"].items():
        yield name, f"{model['name']} {model.get('sha256', '')[:12]}".strip()
    for field, value in _flat(state["config"]):
        if not any(field == free or field.startswith(f"{free}.") for free in (*FREE_FIELDS, *recipe.free)):
            yield field, value


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # another build of the same library, such as opencv-python
            versions[package] = "unknown"
    return versions


def now() -> str:
    """Returns the time as run.json holds it: ISO, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
