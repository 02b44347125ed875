"""Crops that recipes ask for, and the stage that cuts them."""

import io
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from bad_images import encode
from normals_run import chunk_of, work_in
from PIL import ExifTags, Image

from pipeline.faces.crop import CropShape, CropWindow, cut_encoded, inner_window
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.images.decode import DecodeConfig
from pipeline.images.png import decode_png
from pipeline.recipes.crop_stage import POINTS_FIELDS, CropStage
from pipeline.recipes.face_record import FORMAT, check_faces
from pipeline.recipes.normals import RECIPE, NormalsRun, models
from pipeline.run.items import Chunk
from pipeline.run.recipe import Stage
from pipeline.run.records import to_table
from pipeline.run.stages import RecipeStage
from pipeline.storage.store import Store

WIDTH, HEIGHT = 900, 600


def landmarks_in(left: float, top: float, side: float) -> np.ndarray:
    """68 points whose tight box is this square."""
    points = np.full((68, 2), (left + side / 2, top + side / 2))
    points[0], points[1] = (left, top), (left + side, top + side)
    return points


FACES = np.stack([landmarks_in(300, 200, 100), landmarks_in(600, 250, 60)])


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Every pixel says where it is: red is a quarter of its column, green of its row, blue noise."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH))
    return np.stack([columns // 4, rows // 4, noise], axis=-1).astype(np.uint8)


def middle(window: CropWindow) -> tuple[float, float]:
    return window.left + window.size / 2, window.top + window.size / 2


class TestCuts:
    @pytest.mark.parametrize(("scale", "size"), [(1.0, 64), (1.2, 256), (2.5, 100), (4.0, 512)])
    def test_scale_says_how_much_is_seen_and_size_how_finely(self, photo, scale, size):
        window, data = cut_encoded(photo, FACES[0], CropShape("c", scale, size))
        assert (window.size, middle(window)) == (round(100 * scale), (350, 250))
        crop = decode_png(data)
        assert (crop.shape, crop.dtype) == ((size, size, 3), np.uint8)
        for row, column in ((0, 0), (size // 2, size // 3), (size - 1, size - 1)):
            seen = window.to_photo((column, row), size)
            np.testing.assert_allclose(crop[row, column, :2], seen / 4, atol=2)

    def test_the_window_stays_within_the_photo(self, photo):
        for landmarks in (landmarks_in(-20, -30, 100), landmarks_in(870, 580, 100)):
            window, data = cut_encoded(photo, landmarks, CropShape("c", 3.0, None))
            assert window == inner_window(landmarks, WIDTH, HEIGHT, 3.0)
            np.testing.assert_array_equal(decode_png(data), window.cut(photo))

    @pytest.mark.parametrize(("limit", "side"), [(1024, 150), (150, 150), (149, 149), (40, 40)])
    def test_the_photos_own_pixels_up_to_a_limit(self, photo, limit, side):
        window, data = cut_encoded(photo, FACES[0], CropShape("c", 1.5, None, limit))
        crop = decode_png(data)
        assert (window.size, crop.shape) == (150, (side, side, 3))
        assert np.array_equal(crop, window.cut(photo)) == (side == 150)

    def test_what_is_made_smaller_is_averaged(self):
        checks = np.indices((400, 400)).sum(axis=0) % 2 * 255
        image = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
        crop = decode_png(cut_encoded(image, landmarks_in(100, 100, 200), CropShape("c", 1.0, 50))[1])
        assert np.abs(crop.astype(int) - 127).max() <= 1

    def test_jpeg_is_smaller_and_looks_the_same(self, astronaut):
        landmarks = landmarks_in(150, 50, 150)
        window, png = cut_encoded(astronaut, landmarks, CropShape("c", 1.5, None))
        same, jpeg = cut_encoded(astronaut, landmarks, CropShape("c", 1.5, None, form="jpeg"))
        assert same == window
        assert len(jpeg) < len(png) / 2
        image = Image.open(io.BytesIO(jpeg))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        difference = np.abs(np.asarray(image).astype(int) - window.cut(astronaut))
        assert difference.mean() < 3


SHAPES = (
    CropShape("wide", 2.0, 96),
    CropShape("fine", 1.5, None, 120),
    CropShape("small", 1.2, 32, form="jpeg"),
)


class TestStage:
    @pytest.fixture
    def detect(self, tmp_path) -> DetectConfig:
        """Finds the two faces in the photo of a chunk that has this name, and none in others."""
        np.save(tmp_path / "0.npy", FACES)
        return DetectConfig(mode="files", landmarks=str(tmp_path))

    def run(self, detect: DetectConfig, *contents: bytes, shapes=SHAPES, isolated=True) -> Chunk:
        """Takes photos through the stage as a run does."""
        arguments = DecodeConfig(), detect, None, shapes
        stage = Stage("crop", CropStage, arguments=lambda config: arguments, isolated=isolated)
        work = replace(
            work_in(Store("/nowhere"), config=NormalsRun()), recipe=replace(RECIPE, stages=(stage,))
        )
        chunk = chunk_of(*contents)
        carried_out = RecipeStage(work, 0)
        carried_out(chunk)
        carried_out.close()
        return chunk

    def test_every_face_gets_every_crop(self, detect, photo):
        (item,) = self.run(detect, encode(photo, "PNG")).items
        assert len(item.handed_on) == len(item.record["faces"]) == 2
        for face, crops, box in zip(item.record["faces"], item.handed_on, (100, 60), strict=True):
            assert crops.pop("photo_size") == (photo.shape[1], photo.shape[0])
            assert list(crops) == ["wide", "fine", "small"]
            windows, images = zip(*crops.values(), strict=True)
            assert [window.size for window in windows] == [2 * box, 3 * box // 2, 6 * box // 5]
            sides = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape for data in images]
            assert sides == [(96, 96, 3), (min(120, 3 * box // 2),) * 2 + (3,), (32, 32, 3)]
            assert face["crop_window"]["size"] == 6 * box // 5

    def test_further_crops_do_not_change_the_record(self, detect, photo):
        content = encode(photo, "PNG")
        (with_shapes,) = self.run(detect, content).items
        (without,) = self.run(detect, content, shapes=()).items
        assert pickle.dumps(with_shapes.record) == pickle.dumps(without.record)
        assert without.handed_on == [{"photo_size": (WIDTH, HEIGHT)}] * 2

    def test_a_photo_without_faces_hands_nothing_on(self, detect, photo):
        items = self.run(detect, encode(photo, "PNG"), encode(photo[::2], "PNG")).items
        assert [item.record["status"] for item in items] == [None, "no_face"]
        assert items[1].handed_on is None

    def test_the_record_says_what_the_points_network_found(self, astronaut):
        detect = DetectConfig(mode="auto")
        (item,) = self.run(detect, encode(astronaut, "PNG")).items
        table = to_table([item.record | {"status": "ok"}], FORMAT)
        ((face,),) = table["faces"].to_pylist()
        finder = FaceFinder(detect)
        (found,) = (face.points for face in finder(astronaut))
        points = np.reshape(np.float32(face["points"]), (500, 3))
        np.testing.assert_array_equal(points[:, :2], found.points)
        np.testing.assert_array_equal(points[:, 2], found.sigma[:500])
        np.testing.assert_allclose(np.array(face["visible"]) / 255, found.visible[:500], atol=0.002)
        np.testing.assert_array_equal(np.reshape(np.float32(face["rotation"]), (3, 3)), found.rotation)
        assert face["points_sigma"] == pytest.approx(found.relative_sigma)
        assert (
            face["detector"] == finder.detector_name == models(NormalsRun(detect=detect))["detector"]["name"]
        )
        # What is left is that the network's stage has not been there.
        assert list(check_faces(table.to_pylist()[0], NormalsRun(), True)) == [
            "has a face without normal_png, mask_png, mask_share"
        ]

    def test_other_detectors_leave_the_points_out(self, detect, photo):
        (item,) = self.run(detect, encode(photo, "PNG")).items
        for face in item.record["faces"]:
            assert {face[name] for name in POINTS_FIELDS} == {None}
            assert face["detector"] == "files"

    def test_the_focal_length_is_kept(self, detect, photo):
        exif = Image.Exif()
        exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLength: 4.25, ExifTags.Base.FocalLengthIn35mmFilm: 28}
        items = self.run(detect, encode(photo, "JPEG", exif=exif), encode(photo[::2], "JPEG")).items
        told = [(item.record["focal_mm"], item.record["focal_35mm"]) for item in items]
        assert told == [(4.25, 28), (None, None)]

    @pytest.mark.parametrize("isolated", [True, False])
    def test_photos_do_not_travel(self, detect, photo, isolated):
        content = encode(photo, "PNG")  # 1.6 MB decoded, noise that takes half a megabyte encoded
        chunk = self.run(detect, content, encode(photo[::2], "PNG"), b"damaged", isolated=isolated)
        assert [photo.data for item in chunk.items for photo in item.photos] == [None] * 3
        faces, crops = chunk.items[0].record["faces"], chunk.items[0].handed_on
        encoded = [face[shape.name][1] for face in crops for shape in SHAPES]
        encoded += [face["crop_png"] for face in faces]
        assert len(pickle.dumps(chunk, protocol=5)) < sum(map(len, encoded)) + 10_000
        assert len(content) > 500_000
