"""The whole way of a face, from a photo to a head with its details."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from head_pictures import draw
from posed_faces import SIDE, camera, take

from pipeline.details.config import DetailsConfig
from pipeline.details.kit import head_kit
from pipeline.details.reconstruct import FacePhoto, focal_pixels, points_of, reconstruct
from pipeline.details.unwrap import PhotoView
from pipeline.evaluate.shapes import best_alignment
from pipeline.faces.crop import CropWindow
from pipeline.fitting.fit import FitError
from pipeline.geometry.head_model import FACE_VERTICES
from pipeline.geometry.mesh import EYES, FACE
from pipeline.geometry.uv import read_picture

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
EVAL = Path(__file__).resolve().parents[3] / "shared" / "eval" / "photos"
CONFIG = DetailsConfig(texture_size=512)


@pytest.fixture(scope="module")
def kit():
    return head_kit()


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return picture


@pytest.fixture(scope="module")
def painted(kit):
    """A head with painted skin in front of a camera, and what was made of its photo."""
    rng = np.random.default_rng(5)
    identity, expression = rng.normal(size=100), np.zeros(53)
    expression[kit.model.expression_index("mouthSmile_L")] = 0.6
    expression[kit.model.expression_index("mouthSmile_R")] = 0.6
    truth = camera(yaw=15, pitch=5, distance=70)
    truth.expression[:] = expression
    taken = take(kit.head, identity, truth)
    vertices_camera = truth.to_camera(kit.vertices(identity, expression))
    skin = np.full((64, 64, 3), (205, 160, 140), np.uint8)
    skin[20:30] = 150, 100, 90
    empty = PhotoView(np.zeros((600, 800, 3), np.uint8), truth.focal, (399.5, 299.5))
    image, _ = draw(empty, vertices_camera, kit.proxy, {FACE: skin})
    window = CropWindow(100, 0, 600)
    photo = FacePhoto(taken.view, window.cut(image), window)
    (head,) = reconstruct([photo], kit, CONFIG)
    return vertices_camera, skin, head


def test_known_points_and_normals_give_the_head_back(painted):
    vertices_camera, _, head = painted
    found, goal = (
        v[:FACE_VERTICES][head.kit.head.skin] for v in (head.to_camera(head.vertices), vertices_camera)
    )
    moved = best_alignment(found, goal)(found)
    assert np.median(np.linalg.norm(moved - goal, axis=1)) < 0.06
    assert head.quality.normals < 3
    assert head.action_units["AU12"] == pytest.approx(3, abs=0.7)
    assert head.weights["mouthSmileLeft"] == pytest.approx(0.6, abs=0.15)
    assert set(head.stages) == {"mean", "points", "normals"}


def test_its_texture_is_the_paint(painted):
    _, skin, head = painted
    surely = head.maps.visibility == 255
    assert surely.mean() > 0.1
    paint = cv2.resize(skin, surely.shape, interpolation=cv2.INTER_LINEAR)
    assert np.median(np.abs(head.maps.texture[surely].astype(int) - paint[surely])) <= 3


def test_its_meshes_fit_their_topologies(painted, kit):
    *_, head = painted
    assert len(head.vertices) == kit.proxy.vertex_count > head.triangles.max()
    assert len(head.detailed_vertices) == kit.fine.vertex_count > kit.fine.triangles.max()
    assert np.isfinite(head.detailed_vertices).all()
    assert ((head.uv >= 0) & (head.uv <= 1)).all()
    assert head.triangles_uv.max() < len(head.uv)
    assert head.maps.normals.shape == (512, 512, 3)
    assert head.maps.displacement.dtype == np.uint16
    # The detail of a head without any is small.
    assert np.abs(read_picture(head.maps.displacement, kit.fine_uv) / 32767.5 - 1).mean() * 4 < 0.1


def test_eyeballs_turn_with_the_expression(kit):
    looking = np.zeros(53)
    looking[kit.model.expression_index("eyeLookOut_L")] = 1
    still, turned = (kit.vertices(np.zeros(100), weights) for weights in (looking * 0, looking))
    left, right = (np.unique(kit.proxy.only(eye).faces) for eye in EYES)
    assert np.abs(turned - still)[left].max() > 0.3
    assert np.abs(turned - still)[right].max() == 0


@pytest.mark.parametrize("name", ["astronaut.jpg", "rendered_1.jpg"])
def test_one_call_makes_a_head_of_a_photo(name):
    from pipeline import reconstruct_head

    image = read(PHOTOS / name)
    head = reconstruct_head(image, CONFIG)
    height, width = image.shape[:2]
    assert (head.width, head.height) == (width, height)
    pixels = head.view.project(head.to_camera(head.vertices[:FACE_VERTICES]))
    assert ((pixels > 0) & (pixels < (width, height))).mean() > 0.9
    assert head.quality.points_share < 0.03
    assert head.quality.covered > 0.5
    assert not head.quality.disagree
    assert 30 < -head.view.position[2] < 400
    assert (head.maps.visibility == 255).mean() > 0.1


def test_a_smile_is_found_in_a_photo():
    from pipeline import reconstruct_head

    if not EVAL.exists():
        pytest.skip("the photos are not at hand")
    head = reconstruct_head(read(EVAL / "obama.jpg"), CONFIG)
    assert head.action_units["AU12"] > 1
    assert head.quality.normals < 15


def test_no_face_and_points_without_a_head_are_refused(kit):
    from pipeline import reconstruct_head

    with pytest.raises(FitError, match="no face"):
        reconstruct_head(np.full((200, 200, 3), 128, np.uint8), CONFIG)
    state = camera()
    taken = take(kit.head, np.zeros(100), state)
    rng = np.random.default_rng(0)
    taken.view.points.photo[:] = rng.uniform(200, 500, taken.view.points.photo.shape)
    photo = FacePhoto(taken.view, np.zeros((SIDE, SIDE, 3), np.uint8), CropWindow(0, 0, SIDE))
    with pytest.raises(FitError):
        reconstruct([photo], kit, CONFIG)


def test_landmarks_alone_are_soft_and_their_jaw_is_a_contour(kit):
    landmarks = np.random.default_rng(1).uniform(0, 100, (68, 2))
    points = points_of(kit.head, landmarks, None, None)
    assert points.contour.sum() == 17
    dense = np.column_stack([np.zeros((500, 2)), np.full(500, 2.0)])
    visible = np.ones(500)
    visible[7] = 0
    points = points_of(kit.head, landmarks, dense, visible)
    assert points.contour is None
    assert len(points.photo) == 568
    assert points.sigma[7] > 2 * points.sigma[8]


@pytest.mark.parametrize(
    ("width", "height", "focal"),
    [(3000, 2000, 50 / 43.27 * 3605.55), (2000, 3000, 50 / 43.27 * 3605.55), (3000, 1234, None)],
)
def test_focal_length_of_whole_photos_alone_is_believed(width, height, focal):
    assert focal_pixels(50, width, height) == (focal and pytest.approx(focal, rel=1e-3))
    assert focal_pixels(None, width, height) is None
    assert focal_pixels(3, width, height) is None


def test_hints_add_up():
    config = DetailsConfig(emotion="happy", action_units={"AU12": 5, "AU4": 1})
    assert config.hints == {"AU6": 3, "AU12": 5, "AU4": 1}
    assert set(DetailsConfig(expression="neutral").hints.values()) == {0}
    with pytest.raises(ValueError, match="no action unit"):
        DetailsConfig(action_units={"AU99": 1})
