"""`facet details`: its records, its stage, and whole runs."""

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner
from killed_after import kill_after
from posed_faces import camera, take

from jobs import evaluate
from pipeline.config import load_config
from pipeline.details.config import DetailsConfig
from pipeline.details.kit import head_kit
from pipeline.details.pictures import encode_jpeg
from pipeline.details.reconstruct import reconstruct_head
from pipeline.errors import DataError, ImageError
from pipeline.faces.crop import CropWindow
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.fitting.fit import FitError
from pipeline.geometry.head_model import load_face_model
from pipeline.geometry.mesh import FACE as FACE_PART
from pipeline.geometry.mesh import load_topology
from pipeline.geometry.mesh_files import Material, Mesh
from pipeline.geometry.mesh_files.obj import write_obj
from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.recipes.details import RECIPE, DetailsRun
from pipeline.recipes.head_export import export_run, folder_name
from pipeline.recipes.head_record import FACE, FIT_FAILED, SCHEMA, check_heads, describe_head, read_head
from pipeline.recipes.head_scores import score_heads
from pipeline.recipes.head_stage import HeadStage
from pipeline.run.folder import RunRequest
from pipeline.run.items import Item
from pipeline.run.job import run
from pipeline.run.records import to_table
from pipeline.run.retry import retry_run
from pipeline.run.status import run_status
from pipeline.run.validate import validate_run
from pipeline.storage.store import Store

CONFIG = DetailsConfig(texture_size=512)
PHOTOS = Path(__file__).resolve().parents[1] / "photos"
OPTIONS = [
    "details.texture_size=512",
    "plan.shard_size=2",
    "plan.chunk_size=1",
    "engine.name=local",
    "engine.cpus=1",
    "output.files=tar",
]


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return picture


@pytest.fixture(scope="module")
def head():
    return reconstruct_head(read(PHOTOS / "rendered_2.jpg"), DetailsConfig(texture_size=512))


def test_a_head_of_a_record_is_the_same_head(head):
    found = to_table([{"head": describe_head(head)}], _only_head()).to_pylist()[0]["head"]
    again = read_head(found, head.width, head.height, head_kit())
    assert np.abs(again.vertices - head.vertices).max() < 1e-4
    assert np.abs(again.to_camera(again.vertices) - head.to_camera(head.vertices)).max() < 1e-3
    assert np.abs(again.detailed_vertices - head.detailed_vertices).max() < 1e-3
    assert vars(again.quality) == pytest.approx(vars(head.quality), rel=1e-5)
    assert again.maps.texture.shape == (512, 512, 3)
    assert np.array_equal(again.maps.displacement, head.maps.displacement)


def test_a_head_is_scored_against_a_scan_stage_by_stage(head, tmp_path):
    (face,) = FaceFinder(DetectConfig(faces="largest"))(read(PHOTOS / "rendered_2.jpg"))
    row = {"uri": "/a/rendered_2.jpg", "id": 1, "width": head.width, "height": head.height}
    dense = np.column_stack([face.points.points, face.points.sigma[:500]])
    row["faces"] = [
        {
            "index": 0,
            "landmarks": face.landmarks.ravel(),
            "points": dense.ravel(),
            "visible": 255 * face.points.visible[:500],
            "head": describe_head(head),
        }
    ]
    scan = Mesh(head.detailed_vertices, head.kit.fine.only(FACE_PART), {FACE_PART: Material()})
    (tmp_path / "rendered_2.obj").write_bytes(write_obj(scan, "mm"))
    elsewhere = row | {"uri": "/a/other.jpg"}
    scored, alone = score_heads([row, elsewhere], CONFIG, tmp_path, unit=0.1)
    assert "mean" not in alone
    assert scored["detailed"]["own_p90"] < 0.5 < scored["points"]["own_p90"] < scored["mean"]["own_p90"]
    for figure in ("similarity_median", "own_median", "degrees"):
        assert scored["detailed"][figure] < scored["proxy"][figure] < scored["mean"][figure]
    with pytest.raises(DataError, match="unit"):
        list(score_heads([row], CONFIG, tmp_path, unit=100))


def _only_head():
    from dataclasses import replace

    import pyarrow as pa

    return replace(RECIPE.record, schema=pa.schema([pa.field("head", FACE.field("head").type)]))


def test_what_is_wrong_with_a_head_is_said(head):
    config = DetailsRun(details=DetailsConfig(texture_size=512))
    row = {"status": "ok", "width": 1, "height": 1, "faces": [dict.fromkeys(FACE.names)]}
    face = row["faces"][0]

    def said() -> str:
        return "; ".join(check_heads(row, config, True))

    assert "neither a head nor a reason" in said()
    face["head"] = describe_head(head)
    assert "has a head" not in said()
    for name, value, expected in [
        ("rotation", np.full(9, np.nan), "rotation is not finite"),
        ("focal", -1.0, "without a focal length"),
        ("texture_jpeg", b"", "texture_jpeg cannot be decoded"),
        ("displacement_png", encode_png(np.zeros((8, 8), np.uint16)), "not of 512x512"),
        ("quality", None, "without quality"),
    ]:
        face["head"] = describe_head(head) | {name: value}
        assert expected in said()
    face["head_error"] = "no head fits"
    assert "or with both" in said()


def item_of(noise: tuple[float, ...]) -> Item:
    """A photo with some faces as the stages before hand them on; their points are off by so many pixels."""
    kit = head_kit()
    faces, handed_on = [], []
    for index, pixels in enumerate(noise):
        photo = take(kit.head, np.zeros(100), camera(yaw=10), noise=pixels, sigma=2.0, seed=index)
        points = photo.view.points
        window = photo.view.normals
        faces.append(
            {
                "index": index,
                "landmarks": points.photo[500:].ravel(),
                "points": np.column_stack([points.photo, points.sigma])[:500].ravel(),
                "visible": np.full(500, 255, np.uint8),
                "crop_window": {
                    "left": round(window.left),
                    "top": round(window.top),
                    "size": round(window.size),
                },
            }
        )
        texture = encode_jpeg(np.full((256, 256, 3), 150, np.uint8))
        handed_on.append(
            {
                "normals": encode_normals(window.normals),
                "mask": (window.confidence > 0).astype(np.uint8) * 255,
                "confidence": window.confidence.astype(np.float16),
                "texture": (CropWindow(150, 50, 500), texture),
            }
        )
    record = {"width": 800, "height": 600, "focal_35mm": None, "faces": faces}
    return Item(record, [], handed_on)


def test_a_face_without_a_head_says_why_and_leaves_the_others_theirs():
    stage = HeadStage(load_face_model(), load_topology(), DetailsConfig(texture_size=512), "opengl")
    item = item_of((1.0, 150.0))
    stage(item)
    good, bad = item.record["faces"]
    assert good["head_error"] is None
    assert good["head"]["quality"]["points_share"] < 0.02
    assert bad["head"] is None
    assert re.search(r"no head fits the points: .* \d+\.\d%", bad["head_error"])
    with pytest.raises(ImageError, match=r"No head fits: face 0: .*%") as caught:
        stage(item_of((150.0,)))
    assert caught.value.code == FIT_FAILED


@pytest.mark.parametrize("name", ["half", "small", "cartoon", "mask"])
def test_odd_photos_get_a_plausible_head_or_none(name):
    picture = odd_photo(name)
    find = FaceFinder(DetectConfig(min_face_size=20))
    for face in find(picture):
        try:
            head = reconstruct_head(picture, CONFIG, face=face)
        except FitError:
            continue  # with the numbers, as the test before has it
        assert np.isfinite(head.vertices).all()
        assert np.isfinite(head.detailed_vertices).all()
        assert head.quality.points_share <= CONFIG.most_off
        assert head.quality.disagree == (head.quality.disagreement > CONFIG.fit.disagreement)
    assert name != "small" or find(picture)


def odd_photo(name: str) -> np.ndarray:
    """Half a face, one of some 40 pixels, one that is drawn, one that is covered below the eyes."""
    photo = read(PHOTOS / "astronaut.jpg")
    if name == "small":
        return cv2.resize(photo, (205, 205), interpolation=cv2.INTER_AREA)
    if name == "half":
        return np.ascontiguousarray(photo[20:300, 100:225])
    if name == "mask":
        photo[125:185, 180:270] = 180, 120, 60
        return photo
    drawn = np.full((400, 400, 3), (250, 230, 200), np.uint8)
    cv2.circle(drawn, (200, 200), 150, (240, 190, 120), -1)
    for x in (140, 260):
        cv2.ellipse(drawn, (x, 160), (28, 38), 0, 0, 360, (255, 255, 255), -1)
        cv2.circle(drawn, (x, 165), 14, (20, 30, 40), -1)
    cv2.ellipse(drawn, (200, 250), (70, 45), 0, 0, 180, (180, 60, 60), -1)
    return drawn


def test_every_field_is_described():
    for field in [*FACE, *FACE.field("head").type]:
        assert field.metadata[b"description"]
    assert SCHEMA.names == list(RECIPE.record.schema.names)


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("[rf]*/shard-*")}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's own
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_run_is_killed_goes_on_is_retried_and_is_the_same(tmp_path, monkeypatch, engine):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("rendered_1.jpg", "rendered_two.jpg", "astronaut.jpg"):
        shutil.copy(PHOTOS / name, photos)
    (photos / "blank.png").write_bytes(encode_png(np.full((300, 300, 3), 90, np.uint8)))
    (photos / "broken.jpg").write_bytes(b"no photo")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers
    alone, out = tmp_path / "alone", tmp_path / "out"
    run(RunRequest(RECIPE, str(photos), str(alone), load_config(DetailsRun, None, OPTIONS)))

    options = [*OPTIONS, f"engine.name={engine}"]
    config = load_config(DetailsRun, None, options)
    kill_after(2, "pipeline.recipes.details", photos, out, options)
    assert run_status(Store(str(out))).status in ("starting", "running")  # a sign is up to 10 s old
    done = run(RunRequest(RECIPE, str(photos), str(out), config))
    assert shard_bytes(out) == shard_bytes(alone)
    assert done.counts.statuses == {"ok": 3, "no_face": 1, "failed": 1}
    assert done.counts.found["faces"] == 4
    assert validate_run(RECIPE, str(out)).sound
    assert Path(done.report).exists()

    shutil.copy(PHOTOS / "rendered_3.jpg", photos / "broken.jpg")
    tried = retry_run(RECIPE, str(out), ["unsupported_format"])
    assert (tried.ok, tried.shards) == (1, 1)
    assert validate_run(RECIPE, str(out)).sound
    rows = {Path(row["uri"]).name: row for row in ds.dataset(f"{out}/records").to_table().to_pylist()}
    for name in ("rendered_1.jpg", "rendered_two.jpg", "astronaut.jpg", "broken.jpg"):
        for face in rows[name]["faces"]:
            assert face["head_error"] is None
            assert face["head"]["quality"]["points_share"] < 0.03
    heads = tmp_path / "heads"
    list(export_run(Store(str(out)), Store(str(heads)), formats=["obj"], unit="cm"))
    (scan,) = heads.glob("astronaut*/proxy.obj")
    result = CliRunner().invoke(evaluate.command, [str(out), str(scan), "--out", str(tmp_path / "score")])
    assert result.exit_code == 0, result.output
    assert "5 heads" in result.output
    assert (tmp_path / "score/heads.md").read_text() in result.output
    again = reconstruct_head(read(PHOTOS / "astronaut.jpg"), config.details)
    (face,) = rows["astronaut.jpg"]["faces"]
    assert np.abs(np.array(face["head"]["identity"]) - again.identity).max() < 0.3


@pytest.mark.parametrize(
    ("uri", "number", "name"),
    [
        ("/a b/holiday (1).jpg", 5, "holiday_1-0000000000000005-2"),
        ("s3://bucket/x/-rf.png", -1, "rf-ffffffffffffffff-2"),
        ("https://host/...jpg?key=1", 0, "photo-0000000000000000-2"),
        ("/x/" + "y" * 200 + ".jpg", 1, "y" * 60 + "-0000000000000001-2"),
    ],
)
def test_folders_have_safe_names(uri, number, name):
    assert folder_name(uri, number, 2) == name
