"""Detection modes, selection and order of faces, landmarks."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
from bad_images import portrait
from skimage import data

from pipeline.config import load_config
from pipeline.errors import AssetsError, ConfigError, ImageError
from pipeline.faces import landmarks as landmarks_module
from pipeline.faces.detect import DetectConfig, FaceFinder, select
from pipeline.faces.detectors import Detection, search_scales
from pipeline.faces.landmarks import LandmarkPredictor, model_file

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "eval" / "photos"


@pytest.fixture(scope="module")
def finders() -> dict[str, FaceFinder]:
    return {mode: FaceFinder(DetectConfig(mode=mode)) for mode in ("dlib", "paper", "cnn")}


@pytest.fixture(scope="module")
def fast(finders) -> FaceFinder:
    return finders["dlib"]


@pytest.fixture(scope="module")
def paper(finders) -> FaceFinder:
    return finders["paper"]


def resized(image: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def collage(cells: list[np.ndarray], columns: int) -> np.ndarray:
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return np.vstack(rows)


class TestSeed:
    def test_it_is_the_rule_to_the_letter(self, paper, astronaut):
        (face,) = paper(astronaut)
        # As the authors do it: BGR from the file, dlib's defaults, the first detection.
        grey = cv2.cvtColor(np.ascontiguousarray(astronaut[..., ::-1]), cv2.COLOR_BGR2GRAY)
        box = dlib.get_frontal_face_detector()(grey, 0)[0]
        shape = dlib.shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))(grey, box)
        assert face.box == (box.left(), box.top(), box.right(), box.bottom())
        np.testing.assert_array_equal(face.landmarks, [(point.x, point.y) for point in shape.parts()])
        assert face.index == 0

    def test_one_face_whatever_is_asked_for(self):
        image = np.hstack([portrait(400), portrait(500)[:400]])
        config = DetectConfig(mode="paper", faces="all", min_face_size=2000)
        assert len(FaceFinder(config)(image)) == 1

    def test_small_faces_are_not_found(self, paper):
        assert paper(portrait(128)) == []


class TestScales:
    def test_small_photos_are_enlarged_last(self):
        found = {side: search_scales(side, 40, 400, 2048, 1024) for side in (100, 512, 853, 854, 1024)}
        finest = {side: round(scales[-1], 3) for side, scales in found.items()}
        assert finest == {100: 2, 512: 2, 853: 1.2, 854: 1, 1024: 1}

    def test_each_copy_has_at_most_twice_the_side_of_the_one_before(self):
        assert search_scales(300, 40, 400, 2048, 0) == [1]
        assert [round(scale * 1024) for scale in search_scales(1024, 40, 400, 2048, 0)] == [400, 640, 1024]
        assert [round(scale * 800) for scale in search_scales(800, 40, 400, 2048, 0)] == [400, 800]
        assert [round(scale * 2048) for scale in search_scales(2048, 40, 400, 2048, 0)] == [
            400,
            689,
            1188,
            2048,
        ]

    def test_the_finest_copy_is_bounded(self):
        assert search_scales(12_000, 40, 400, 2048, 1024)[-1] * 12_000 == pytest.approx(2048)

    def test_no_finer_than_the_smallest_face_of_interest_asks_for(self):
        assert search_scales(1024, 200, 400, 2048, 1024)[-1] == pytest.approx(0.4)
        assert search_scales(1024, 400, 400, 2048, 1024) == [0.2]


class TestFast:
    @pytest.mark.parametrize("side", [160, 300, 512, 2500])
    def test_a_face_at_any_size_of_the_photo(self, fast, side):
        (face,) = fast(resized(portrait(512), side))
        found = [face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0), face.landmarks[8]]
        eyes_and_chin = [(0.419, 0.396), (0.587, 0.405), (0.486, 0.694)]  # seen in the photo
        np.testing.assert_allclose(np.array(found) / side, eyes_and_chin, atol=0.015)

    def test_forty_faces_of_several_sizes(self, fast):
        face = portrait(160)
        assert len(fast(collage([face] * 40, 8))) == 40
        small = np.full((160, 160, 3), 128, np.uint8)
        small[:150, :150] = portrait(150)
        faces = fast(collage([face, small] * 10, 5))
        assert len(faces) == 20
        boxes = np.array([found.box for found in faces])
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        distances = np.linalg.norm(centres[:, None] - centres, axis=2)
        assert distances[~np.eye(20, dtype=bool)].min() > 100  # none twice

    def test_a_doubtful_face_beside_a_clear_one_is_left_out(self, fast, astronaut):
        # At this size dlib scores the helmet 0.03.
        (face,) = fast(resized(astronaut, 1024))
        assert face.score > 1

    def test_it_finds_what_the_papers_rule_does_not(self, fast, paper):
        sizes = range(130, 260, 20)
        assert sum(len(fast(portrait(size))) for size in sizes) == len(sizes)
        assert sum(len(paper(portrait(size))) for size in sizes) < len(sizes)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (16, 16), (17, 3000)])
    @pytest.mark.parametrize("mode", ["dlib", "paper", "cnn"])
    def test_photos_without_room_for_a_face(self, finders, shape, mode):
        assert finders[mode](np.full((*shape, 3), 90, np.uint8)) == []

    def test_photos_without_a_face(self, fast):
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
        for image in (np.zeros((300, 300, 3), np.uint8), noise, data.coffee(), data.chelsea()):
            assert fast(image) == []

    def test_the_same_photo_gives_the_same_answer(self, fast, astronaut):
        (first,), (second,) = fast(astronaut), FaceFinder(DetectConfig(mode="dlib"))(astronaut.copy())
        assert first.box == second.box
        np.testing.assert_array_equal(first.landmarks, second.landmarks)

    def test_read_only_and_sliced_photos(self, fast, astronaut):
        view = np.dstack([astronaut, astronaut])[..., :3]
        view.flags.writeable = False
        assert fast(view)[0].box == fast(astronaut)[0].box

    @pytest.mark.skipif(not PHOTOS.exists(), reason="the photos are not at hand")
    def test_real_photos(self, fast):
        for path in sorted(PHOTOS.glob("*.[jp][pn]g")):
            faces = fast(cv2.imread(str(path))[..., ::-1])
            assert len(faces) == (2 if path.stem == "two_people" else 1), path.name
            for face in faces:
                assert_is_a_face(face.landmarks)


def assert_is_a_face(points: np.ndarray) -> None:
    right_eye, left_eye = points[36:42].mean(0), points[42:48].mean(0)
    mouth, chin = points[48:].mean(0), points[8]
    assert right_eye[0] < left_eye[0]
    assert max(right_eye[1], left_eye[1]) < points[30, 1] < mouth[1] < chin[1]


class TestCnn:
    def test_a_face(self, fast, astronaut):
        (face,) = FaceFinder(DetectConfig(mode="cnn", cnn_side=400))(astronaut)
        assert face.score > 0.5
        assert_is_a_face(face.landmarks)
        assert np.abs(face.landmarks - fast(astronaut)[0].landmarks).mean() < 3


class TestSelection:
    FOUND = (
        Detection((0, 0, 49, 49), 3.0),
        Detection((100, 0, 199, 99), 1.0),
        Detection((300, 0, 399, 99), 2.0),
        Detection((500, 0, 538, 99), 5.0),
        Detection((200, 0, 299, 99), 2.0),
    )

    def test_the_largest_come_first_then_the_surest_then_the_leftmost(self):
        chosen = select(list(self.FOUND), DetectConfig())
        assert [face.box[0] for face in chosen] == [200, 300, 100, 0]

    def test_largest_and_first(self):
        assert [face.box[0] for face in select(list(self.FOUND), DetectConfig(faces="largest"))] == [200]
        assert [face.box[0] for face in select(list(self.FOUND), DetectConfig(faces="first"))] == [0]

    def test_small_faces_are_left_out(self):
        assert len(select(list(self.FOUND), DetectConfig(min_face_size=20))) == 5
        assert len(select(list(self.FOUND), DetectConfig(min_face_size=50))) == 4
        assert select(list(self.FOUND), DetectConfig(min_face_size=51, faces="first"))[0].box[0] == 100
        assert select(list(self.FOUND), DetectConfig(min_face_size=101)) == []

    def test_another_detector_takes_the_place(self, fast, astronaut):
        (own,) = fast(astronaut)
        given = np.full((68, 2), 7.5, np.float32)
        answers = [Detection(own.box, 0.5), Detection((0, 0, 300, 300), 0.1, given)]
        boxed, located = FaceFinder(DetectConfig(), lambda image: answers)(astronaut)[::-1]
        np.testing.assert_array_equal(boxed.landmarks, own.landmarks)
        np.testing.assert_array_equal(located.landmarks, given)
        assert (located.index, boxed.index) == (0, 1)


class TestLandmarks:
    def test_the_patch_moves_landmarks_by_less_than_a_pixel_in_a_hundred(self, astronaut):
        grey = cv2.cvtColor(resized(astronaut, 1500), cv2.COLOR_RGB2GRAY)
        box = (525.0, 230.0, 795.0, 500.0)
        predictor = LandmarkPredictor()
        difference = np.linalg.norm(predictor.fit(grey, box) - predictor.fit_directly(grey, box), axis=1)
        assert difference.mean() < 0.01 * 270

    def test_landmarks_do_not_depend_on_the_resolution(self, astronaut):
        grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
        predictor = LandmarkPredictor()
        points = predictor.fit(grey, (178.0, 80.0, 268.0, 170.0))
        large = cv2.resize(grey, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
        box = tuple((side + 0.5) * 4 - 0.5 for side in (178.0, 80.0, 268.0, 170.0))
        assert np.abs((predictor.fit(large, box) + 0.5) / 4 - 0.5 - points).mean() < 0.7

    def test_a_box_over_the_border(self, astronaut):
        grey = cv2.cvtColor(astronaut[110:, 200:], cv2.COLOR_RGB2GRAY)
        points = LandmarkPredictor().fit(grey, (-22.0, -30.0, 68.0, 60.0))
        assert np.isfinite(points).all()
        assert points.min() < 0  # stays where the face would be

    def test_missing_models_are_said(self, monkeypatch):
        with pytest.raises(AssetsError, match=r"nothing\.dat is missing"):
            model_file("nothing.dat")
        monkeypatch.setattr(landmarks_module.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(AssetsError, match="pip install face_recognition_models"):
            model_file("shape_predictor_68_face_landmarks.dat")

    def test_the_default_and_own_landmarks_take_no_models(self, astronaut, monkeypatch):
        landmarks_module._load_predictor.cache_clear()  # other tests have loaded them
        monkeypatch.setattr(landmarks_module.importlib.util, "find_spec", lambda name: None)
        assert len(FaceFinder()(astronaut)) == 1
        box = (178.0, 80.0, 268.0, 170.0)
        points = np.full((68, 2), 100.0, np.float32)
        (face,) = FaceFinder(detector=lambda photo: [Detection(box, 1.0, points)])(astronaut)
        assert np.array_equal(face.landmarks, points)
        with pytest.raises(AssetsError, match="pip install face_recognition_models"):
            FaceFinder(detector=lambda photo: [box])(astronaut)

    def test_the_package_of_the_models_is_not_imported(self):
        # Its __init__ needs pkg_resources, which setuptools does not have any more.
        code = (
            "import sys; from pipeline.faces.detect import *; FaceFinder(DetectConfig(mode='dlib'));"
            "assert not {'face_recognition_models', 'pkg_resources'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


class TestFiles:
    @pytest.fixture
    def find(self, tmp_path):
        finder = FaceFinder(DetectConfig(mode="files", landmarks=str(tmp_path)))
        image = np.zeros((300, 300, 3), np.uint8)
        return lambda uri: finder(image, uri)

    @pytest.fixture
    def points(self) -> np.ndarray:
        return np.random.default_rng(0).uniform(50, 250, (68, 2)).astype(np.float32)

    def test_npy(self, find, points, tmp_path):
        np.save(tmp_path / "a.b.npy", points.astype(np.float64))
        np.save(tmp_path / "many.npy", np.stack([points / 2, points]).astype(np.int64))
        (face,) = find("/elsewhere/a.b.jpg")
        np.testing.assert_array_equal(face.landmarks, points)
        assert face.box == (*points.min(0).tolist(), *points.max(0).tolist())
        assert face.score == 1
        first, second = find("s3://bucket/many.jpg")
        np.testing.assert_array_equal(first.landmarks, points.astype(np.int64))
        assert second.index == 1

    def test_pts_begins_at_one(self, find, points, tmp_path):
        lines = "\n".join(f"{x} {y}" for x, y in points)
        (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
        (face,) = find("https://example.com/a.jpg?size=large")
        np.testing.assert_allclose(face.landmarks, points - 1, atol=1e-4)

    def test_no_file_is_no_face(self, find):
        assert find("/a.jpg") == []

    def test_broken_files_have_a_code(self, find, points, tmp_path):
        broken = {
            "empty.npy": b"",
            "text.npy": b"hello",
            "cut.npy": _npy(points)[:200],
            "shape.npy": _npy(points[:67]),
            "huge.npy": _npy(points).replace(b"(68, 2)", b"(99999999999, 68, 2)").replace(b" " * 13, b"", 1),
            "pickle.npy": _npy(np.array([[None] * 2] * 68)),
            "nan.npy": _npy(np.full((68, 2), np.nan)),
            "header.npy": b"\x93NUMPY\1\0\x0a\0{'descr': (",
            "large.npy": _npy(np.full((68, 2), 1e300)),
            "few.pts": b"{ 1 2 3 }",
            "words.pts": b"{" + b" x" * 136 + b"}",
            "binary.pts": b"\xff\xfe",
        }
        for name, content in broken.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ImageError) as caught:
                find(f"/photos/{name.partition('.')[0]}.jpg")
            assert caught.value.code == "landmarks_invalid", name
            assert name in caught.value.message

    def test_the_uri_is_needed(self, tmp_path):
        finder = FaceFinder(DetectConfig(mode="files", landmarks=str(tmp_path)))
        with pytest.raises(ValueError, match="URI"):
            finder(np.zeros((9, 9, 3), np.uint8))

    @pytest.mark.parametrize("options", [["mode=files"], ["landmarks=x"], ["mode=none"], ["min_face_size=3"]])
    def test_wrong_options(self, options):
        with pytest.raises(ConfigError):
            load_config(DetectConfig, overrides=options)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
