from pathlib import Path

import cv2
import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from spheres import sphere_normals, sphere_row

from jobs import dataset as dataset_job
from pipeline.errors import DataError
from pipeline.evaluate.cases import face_mask, read_cases
from pipeline.evaluate.metrics import angular_error
from pipeline.faces.crop import crop_window
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.samples.batch import float_normals
from pipeline.samples.pictures import pair_pictures
from pipeline.samples.rows import IMAGE, NORMALS, PAIRED, BadRows, find_row_groups, load_group
from pipeline.samples.schema import SCHEMA
from pipeline.storage.store import Store
from pipeline.train.convert import convert_folder


@pytest.fixture
def folder(tmp_path):
    for kind in ("images", "normals", "masks"):
        (tmp_path / "in" / kind).mkdir(parents=True)
    return tmp_path / "in"


def put(folder, name, **files):
    for kind, data in files.items():
        (folder / kind / f"{name}.png").write_bytes(data)


def samples_of(out) -> dict:
    samples = [
        sample for group in find_row_groups([str(out)]) for sample in load_group(group, None, BadRows())
    ]
    return {sample.id: sample for sample in samples}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("convention", ["opengl", "opencv", "directx"])
def test_normals_of_any_convention_become_ours(folder, tmp_path, bits, convention):
    truth = sphere_normals(64)
    inside = truth.any(-1)
    pixels = np.where(inside[..., None], encode_normals(truth, bits, convention), 0)
    put(folder, "a", images=sphere_row(0, 64)["image"], normals=encode_png(pixels))
    convert_folder(str(folder), str(tmp_path / "out"), BadRows(), convention=convention, size=64)
    sample = samples_of(tmp_path / "out")["a"]
    assert (sample.normals.any(-1) == inside).all()
    assert angular_error(float_normals(sample), truth)[inside].max() < 0.6
    table = pq.read_table(tmp_path / "out")
    assert table.schema.names == SCHEMA.names
    stored = cv2.imdecode(np.frombuffer(table["normal"][0].as_py(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored.dtype.itemsize * 8 == bits


def test_rows_hold_what_the_folder_has(folder, tmp_path):
    row = sphere_row(0, 64)
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    put(folder, "paired", images=row["image"], normals=row["normal"], masks=encode_png(mask))
    put(folder, "photo", images=row["image"])
    put(folder, "map", normals=row["normal"])
    put(folder, "mask alone", masks=encode_png(mask))
    put(folder, "broken", images=b"nothing")
    put(folder, "wide", images=encode_png(np.zeros((32, 64, 3), np.uint8)))
    put(folder, "sizes", images=row["image"], normals=sphere_row(0, 32)["normal"])
    bad = BadRows()
    assert convert_folder(str(folder), str(tmp_path / "out"), bad, size=32).rows == {
        "paired": 1,
        "images alone": 1,
        "normals alone": 1,
    }
    assert {name.split(" of ")[0] for name in bad.reasons} == {"broken", "wide", "sizes"}
    (group,) = find_row_groups([str(tmp_path / "out")])
    assert list(group.kinds) == [NORMALS, PAIRED, IMAGE]
    samples = samples_of(tmp_path / "out")
    assert samples["photo"].image.shape == (32, 32, 3)
    assert samples["paired"].normals[:16].any()
    assert not samples["paired"].normals[16:].any()


def test_photos_are_cropped_like_the_product_does(folder, tmp_path, astronaut):
    # A map whose normals say where they are: x and y grow with column and row.
    rows, columns = np.mgrid[:512, :512]
    normals = np.stack([(columns - 256) / 400, (256 - rows) / 400, np.ones((512, 512))], -1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    put(folder, "astronaut", images=encode_png(astronaut), normals=encode_png(encode_normals(normals, 16)))
    put(folder, "sky", images=encode_png(np.full((512, 512, 3), 90, np.uint8)))
    bad = BadRows()
    finder = FaceFinder(DetectConfig(faces="largest"))
    assert convert_folder(str(folder), str(tmp_path / "out"), bad, finder=finder).rows == {"paired": 1}
    assert list(bad.reasons.values()) == ["no face was found"]
    sample = samples_of(tmp_path / "out")["astronaut"]
    face = finder(astronaut)[0]
    window = crop_window(face.landmarks)
    centre = float_normals(sample)[128, 128]
    x, y = window.left + window.size / 2, window.top + window.size / 2
    assert centre[0] / centre[2] == pytest.approx((x - 256) / 400, abs=0.02)
    assert centre[1] / centre[2] == pytest.approx((256 - y) / 400, abs=0.02)
    # The landmarks have moved with the crop: the box of them fills it up to the margin of 1.2.
    assert np.ptp(sample.landmarks, axis=0).max() == pytest.approx(256 / 1.2, abs=2)


def test_a_folder_of_nothing_is_an_error(folder, tmp_path):
    with pytest.raises(DataError, match="no pictures"):
        convert_folder(str(folder), str(tmp_path / "out"), BadRows())
    put(folder, "broken", images=b"nothing")
    with pytest.raises(DataError, match="Not one row"):
        convert_folder(str(folder), str(tmp_path / "out"), BadRows())


def test_folders_may_be_remote():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/scans/images/a.png", sphere_row(0, 32)["image"])
    assert convert_folder("memory://scans", "memory://training", BadRows(), size=32).rows == {
        "images alone": 1
    }
    assert filesystem.ls("/training", detail=False) == ["/training/part-00000.parquet"]


def test_command_says_what_it_did(folder, tmp_path):
    put(folder, "good", images=sphere_row(0, 64)["image"])
    put(folder, "broken", images=b"nothing")
    result = CliRunner().invoke(dataset_job.command, [str(folder), str(tmp_path / "out"), "--size", "32"])
    assert result.exit_code == 0, result.output
    assert "1 row written" in result.output
    assert ": 0 paired, 1 images alone, 0 normals alone; 1 could not be used." in result.output


CASES = Path(__file__).resolve().parents[2] / "../shared/cases/pairs"


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not there")
@pytest.mark.parametrize(
    "name",
    [
        "matching", "mask_suffix_only", "suffixes", "images_webp", "composed_and_decomposed", "mask_0_and_1",
    ],
)  # fmt: skip
def test_the_cases_from_the_field(tmp_path, name):
    done = convert_folder(str(CASES / name), str(tmp_path / "out"), BadRows(), size=64)
    assert (done.rows, done.unused) == ({"paired": 2}, [])
    rows = pq.read_table(tmp_path / "out").to_pylist()
    masks = [cv2.imdecode(np.frombuffer(row["mask"], np.uint8), cv2.IMREAD_GRAYSCALE) for row in rows]
    assert [int((mask > 127).sum()) for mask in masks] == [1183, 1368]
    for sample in read_cases([str(CASES / name)], BadRows(), 64):
        assert face_mask(sample).sum() in (1183, 1368)


class TestPairing:
    def pair(self, tmp_path, *names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = pair_pictures(Store(str(tmp_path)))
        return found.rows, found.lines()

    @pytest.mark.parametrize(
        ("image", "normal", "mask"),
        [
            ("a.JPG", "A_Normal.png", "a-MASK.png"),
            ("a_rgb.tif", "a_normal.tif", "a_mask.tif"),
            ("x/a.png", "x/a_nrm.png", "x/a.png"),
            ("caf\u00e9.png", "cafe\u0301_normals.png", "cafe\u0301.mask.png"),
        ],
    )
    def test_files_that_belong_together(self, tmp_path, image, normal, mask):
        files = {"image": f"images/{image}", "normal": f"normals/{normal}", "mask": f"masks/{mask}"}
        rows, lines = self.pair(tmp_path, *files.values())
        assert list(rows.values()) == [files]
        assert lines == []

    def test_what_cannot_be_told_apart_is_not_joined(self, tmp_path):
        rows, lines = self.pair(tmp_path, "images/a.png", "normals/a_n.png", "normals/A_normal.png")
        assert len(rows) == 3
        assert lines == []

    def test_what_belongs_to_nothing_is_named(self, tmp_path):
        rows, lines = self.pair(
            tmp_path, "images/a.png", "images/a.jpg", "images/b.exr", "masks/c.png", "images/notes.txt"
        )
        assert rows == {"a": {"image": "images/a.jpg"}}
        assert lines == [
            "1 files of a name that another has: 'images/a.png'",
            "1 files whose ending is not read: 'images/b.exr'",
            "1 masks without an image or a normal map: 'masks/c.png'",
        ]

    def test_a_black_mask_is_said(self, folder, tmp_path):
        row = sphere_row(0, 64)
        put(folder, "a", normals=row["normal"], masks=encode_png(np.zeros((64, 64), np.uint8)))
        bad = BadRows()
        with pytest.raises(DataError):
            convert_folder(str(folder), str(tmp_path / "out"), bad, size=64)
        assert list(bad.reasons.values()) == ["the mask is black everywhere"]
