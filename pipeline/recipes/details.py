"""`facet details`: a head with its wrinkles for every face. All that the job is, from top to bottom."""

from typing import Any

from pydantic import Field

from pipeline.assets import find_ict_facekit
from pipeline.assets.ict_facekit import content_digest, load
from pipeline.details.config import DetailsConfig
from pipeline.details.reconstruct import TEXTURE_CROP
from pipeline.recipes import normals
from pipeline.recipes.crop_stage import CropStage
from pipeline.recipes.head_record import FORMAT
from pipeline.recipes.head_stage import HeadStage
from pipeline.recipes.normals import NormalsRun
from pipeline.recipes.normals_stage import NormalsStage
from pipeline.run.config import EngineConfig, LimitsConfig, PlanConfig
from pipeline.run.recipe import Recipe, Stage
from pipeline.storage.store import Store


class HeadLimitsConfig(LimitsConfig):
    """What one photo may take: a group of fifty is fifty fits."""

    photo_seconds: float | None = Field(default=900.0, gt=0)


class HeadPlanConfig(PlanConfig):
    """How the work is cut: an item takes seconds, so that a few already keep all cores busy."""

    chunk_size: int = Field(default=1, ge=1, le=1024)


class HeadEngineConfig(EngineConfig):
    """What does the work: two heads take longer than processes to start."""

    in_process_up_to: int = Field(default=1, ge=0)


class DetailsRun(NormalsRun):
    """Configuration of `facet details`: that of `facet normals`, and `details`; see configs/details.yaml."""

    plan: HeadPlanConfig = Field(default_factory=HeadPlanConfig)
    limits: HeadLimitsConfig = Field(default_factory=HeadLimitsConfig)
    engine: HeadEngineConfig = Field(default_factory=HeadEngineConfig)
    details: DetailsConfig = Field(default_factory=DetailsConfig)


def crop_arguments(config: DetailsRun) -> tuple[Any, ...]:
    """Returns the arguments of `CropStage`: the texture needs a crop of its own."""
    return *normals.crop_arguments(config), (TEXTURE_CROP,)


def normals_arguments(config: DetailsRun) -> tuple[Any, ...]:
    """Returns the arguments of `NormalsStage`, which is to tell the confidence too."""
    return *normals.normals_arguments(config), True


def head_arguments(config: DetailsRun) -> tuple[Any, ...]:
    """Returns the arguments of `HeadStage`, with the head model loaded."""
    from pipeline.geometry.head_model import load_face_model
    from pipeline.geometry.mesh import load_topology

    return load_face_model(), load_topology(), config.details, config.output.convention


def models(config: DetailsRun) -> dict[str, dict[str, str]]:
    """Returns the weights and the head model, which decide the results."""
    digest = content_digest(load(find_ict_facekit()))
    return normals.models(config) | {"head": {"name": "ict-facekit", "sha256": digest, "licence": "MIT"}}


def write_page(store: Store, config: DetailsRun, item: str = "photo") -> str:
    """Writes the report with a page of heads beside it; see `normals.write_page`."""
    from pipeline.details.kit import head_kit
    from pipeline.recipes.head_page import write_heads

    write_heads(store, config, head_kit(level=config.details.level))
    return normals.write_page(store, config, item)


RECIPE = Recipe(
    name="details",
    config=DetailsRun,
    stages=(
        Stage("crop", CropStage, "core", crop_arguments, isolated=True),
        Stage("normals", NormalsStage, "network", normals_arguments),
        Stage("head", HeadStage, "core", head_arguments, isolated=True),
    ),
    record=FORMAT,
    models=models,
    joins=normals.joins,
    device=normals.device,
    report=write_page,
    sheet=normals.draw_sheet,
    free=normals.RECIPE.free,
    retried=normals.RECIPE.retried,
    packages=(*normals.RECIPE.packages, "scipy"),
    preload=normals.RECIPE.preload,
)
