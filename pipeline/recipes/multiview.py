"""`facet multiview`: one head for the photos of each person. All that the job is, from top to bottom."""

from functools import partial
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
    most_photos=60,
    models=details.models,
    joins=joins,
    device=normals.device,
    report=partial(details.write_page, item="person"),
    sheet=partial(normals.draw_sheet, item="person"),
    free=details.RECIPE.free,
    retried=details.RECIPE.retried,
    packages=details.RECIPE.packages,
    preload=details.RECIPE.preload,
)
