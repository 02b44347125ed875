"""What Facet makes of photos: one recipe per file, spelled from top to bottom."""

# Imports stand in the functions: isolated processes load single modules of this package and nothing else.

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import OutputError

if TYPE_CHECKING:
    from pipeline.run.recipe import Recipe
    from pipeline.storage.store import Store

NAMES = ("normals", "details", "multiview")

WITH_HEADS = ("details", "multiview")
"""Recipes whose records hold heads."""


def load_recipe(name: str) -> Recipe:
    """Returns a recipe by its name, which is also that of its command and of its module."""
    return importlib.import_module(f"pipeline.recipes.{name}").RECIPE


def open_run_folder(output: str, config: str | None = None, overrides: Sequence[str] = ()) -> Store:
    """Opens the folder of a run, as the section `read.storage` of a configuration says."""
    from pipeline.config import load_config
    from pipeline.run.config import ReadSection
    from pipeline.storage.store import Store

    return Store(output, load_config(ReadSection, config, overrides).read.storage)


def find_run(output: str, config: str | None, overrides: Sequence[str]) -> tuple[Recipe, Store, Any]:
    """Finds out what kind of run a folder holds.

    Returns:
        The recipe, the folder, and the configuration, of the recipe's class.

    Raises:
        ConfigError: The configuration is not one of this recipe.
        OutputError: The folder holds no run, or one of a recipe that is not known here.
    """
    from pipeline.config import load_config
    from pipeline.run.state import read_state, recipe_name

    store = open_run_folder(output, config, overrides)
    state = read_state(store)
    if state is None:
        raise OutputError(f"There is no run in {store.url}.")
    name = recipe_name(state)
    if name not in NAMES:
        raise OutputError(f"{store.url} holds a run of `facet {name}`, which this version does not have.")
    recipe = load_recipe(name)
    return recipe, store, load_config(recipe.config, config, overrides)
