"""`facet multiview`: one head for the photos of each person. All that the job is, from top to bottom."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pipeline.details.person import PersonConfig
from pipeline.images.items import one_subject_each
from pipeline.recipes import details, normals
from pipeline.recipes.details import DetailsRun
from pipeline.recipes.normals_stage import NormalsStage
from pipeline.recipes.person_record import FORMAT
from pipeline.recipes.person_stages import PersonCropStage, PersonStage
from pipeline.run.recipe import Recipe, Stage
from pipeline.storage.store import Store


class MultiviewRun(DetailsRun):
    """Configuration of `facet multiview`: that of `facet details`, and which photos of a person are used."""

    person: PersonConfig = Field(default_factory=PersonConfig)


def crop_arguments(config: MultiviewRun) -> tuple[Any, ...]:
    """Returns the arguments of `PersonCropStage`."""
    return config.person.most_photos, *details.crop_arguments(config)


def person_arguments(config: MultiviewRun) -> tuple[Any, ...]:
    """Returns the arguments of `PersonStage`, with the head model loaded."""
    return config.person, *details.head_arguments(config)


def joins(config: MultiviewRun) -> bool:
    """No: a record names the photos of its own folder."""
    return False


def write_page(store: Store, config: MultiviewRun) -> str | None:
    """Writes the page of heads, with what was left out and why, and returns where it is; None: no heads."""
    from pipeline.details.kit import head_kit
    from pipeline.recipes.head_page import PAGE, write_heads

    written = write_heads(store, config, head_kit(level=config.details.level))
    return store.place(PAGE) if written else None


RECIPE = Recipe(
    name="multiview",
    config=MultiviewRun,
    stages=(
        Stage("crop", PersonCropStage, "core", crop_arguments, isolated=True),
        Stage("normals", NormalsStage, "network", details.normals_arguments),
        Stage("head", PersonStage, "core", person_arguments, isolated=True),
    ),
    record=FORMAT,
    item="person",
    group=one_subject_each,
    models=details.models,
    joins=joins,
    device=normals.device,
    report=write_page,
    free=details.RECIPE.free,
    retried=details.RECIPE.retried,
    packages=details.RECIPE.packages,
    preload=details.RECIPE.preload,
)
