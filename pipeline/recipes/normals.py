"""`facet normals`: surface normals of every face. All that the job is, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.faces.detect import DetectConfig, detector_name
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.images.read import PhotoReader
from pipeline.normals.config import NormalsConfig
from pipeline.normals.encoding import Convention
from pipeline.normals.inference import choose_precision, choose_runtime
from pipeline.normals.parameters import read_parameters
from pipeline.recipes.crop_stage import CropStage
from pipeline.recipes.face_record import FORMAT
from pipeline.recipes.normals_stage import NormalsStage
from pipeline.run.config import OutputConfig, RunConfig
from pipeline.run.recipe import Recipe, Stage
from pipeline.storage.store import Store
from pipeline.weights import WeightsFile, find_weights, read_weights

if TYPE_CHECKING:
    from pipeline.report.sheet import DecodePhoto, ReadBytes


class NormalsOutputConfig(OutputConfig):
    """What is written.

    Attributes:
        images: Which images of a face the records hold: its crop, normals and mask; no crop; or none.
        file_images: The same of the files beside the records, where `files` asks for them.
        bits: Depth of the normals' PNGs.
        convention: Axes of the normals' PNGs.
    """

    images: Literal["all", "normals", "none"] = "all"
    file_images: Literal["all", "normals"] = "all"
    bits: Literal[8, 16] = 8
    convention: Convention = "opengl"

    @model_validator(mode="after")
    def _tars_are_made_of_records(self) -> Self:
        # A retry writes the tar of its shard anew.
        if self.files == "tar" and self.images not in ("all", self.file_images):
            raise ValueError(
                f"files=tar with file_images={self.file_images} needs images={self.file_images} or all"
            )
        return self


class NormalsRun(RunConfig):
    """Configuration of `facet normals`; configs/normals.yaml holds it with the defaults."""

    decode: DecodeConfig = Field(default_factory=DecodeConfig)
    detect: DetectConfig = Field(default_factory=DetectConfig)
    normals: NormalsConfig = Field(default_factory=NormalsConfig)
    output: NormalsOutputConfig = Field(default_factory=NormalsOutputConfig)


def crop_arguments(config: NormalsRun) -> tuple[Any, ...]:
    """Returns the arguments of `CropStage`."""
    return config.decode, config.detect, config.read.storage


def normals_arguments(config: NormalsRun) -> tuple[Any, ...]:
    """Returns the arguments of `NormalsStage`, with the weights read."""
    weights = read_weights(config.normals.weights)
    return weights, config.normals, config.output.bits, config.output.convention


def models(config: NormalsRun) -> dict[str, dict[str, str]]:
    """Returns the weights that decide the results, once it is certain that all that is named is there."""
    from pipeline.faces.custom import check_detector

    if config.detect.detector:
        check_detector(config.detect.detector)
    weights = read_weights(config.normals.weights)
    read_parameters(weights)  # checks them
    found = {"weights": weights.entry}
    if config.detect.mode == "auto":
        found["points"] = find_weights("points")[0]
    names = ("name", "architecture", "sha256", "licence")
    models = {model: {name: getattr(entry, name) for name in names} for model, entry in found.items()}
    models["weights"]["runtime"] = runtime_here(weights, config.normals)
    return models | {"detector": {"name": detector_name(config.detect)}}


def runtime_here(weights: WeightsFile, config: NormalsConfig) -> str:
    """Returns what computes on a machine like this one, such as "onnx int8"; other workers may differ.

    Raises:
        FacetError: It cannot do what is asked.
    """
    runtime = choose_runtime(config.runtime, config.device, config.precision)
    if runtime == "torch":
        return "torch"
    return f"onnx {choose_precision(config.precision, weights)}"


def joins(config: NormalsRun) -> bool:
    """Landmarks from files go by the photo's name: the same bytes may have other faces."""
    return config.detect.mode != "files"


def device(config: NormalsRun) -> str:
    """Returns where the network runs."""
    return config.normals.device


def write_page(store: Store, config: NormalsRun, item: str = "photo") -> str:
    """Writes the report, and returns where it is; `item` is what a record is of."""
    from pipeline.report.write import write_report

    return write_report(store, *_photos(config), item)


def draw_sheet(store: Store, config: NormalsRun, where: Sequence[str], item: str = "photo") -> str:
    """Returns the page of the items and faces that meet conditions; see `pipeline.report.light_rows`."""
    from pipeline.report.write import make_report

    return make_report(store, *_photos(config), where, item)


def _photos(config: NormalsRun) -> tuple[ReadBytes, DecodePhoto]:
    from pipeline.report.sheet import THUMBNAIL_SIZE

    reader = PhotoReader(config.read)
    return lambda uris: list(reader(uris)), lambda data: decode_image(data, config.decode, THUMBNAIL_SIZE)


RECIPE = Recipe(
    name="normals",
    config=NormalsRun,
    stages=(
        Stage("crop", CropStage, "core", crop_arguments, isolated=True),
        Stage("normals", NormalsStage, "network", normals_arguments),
    ),
    record=FORMAT,
    models=models,
    joins=joins,
    device=device,
    report=write_page,
    sheet=draw_sheet,
    free=("normals.weights", "normals.device", "normals.batch_size"),
    retried=("decode.max_pixels", "decode.min_side"),
    packages=("torch", "dlib-bin", "opencv-python-headless", "onnxruntime"),
    preload=("pipeline.normals.onnx_network",),
)
