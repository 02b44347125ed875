"""The texture of a head whose texture is known, from its picture."""

import numpy as np
import pytest
from head_pictures import draw, placed, turn, view_of
from scipy.spatial import cKDTree

from pipeline.details.skin import face_area
from pipeline.details.unwrap import MIRRORED, PhotoView, PosedHead, continued, show, unwrap
from pipeline.geometry.head_model import load_face_model
from pipeline.geometry.mesh import BACK_HEAD, FACE, HEAD_PARTS, load_topology, vertex_normals
from pipeline.geometry.uv import uv_map

SIZE = 512


def symmetric_picture() -> np.ndarray:
    """(SIZE, SIZE, 3) uint8: waves of some texels' length, alike on both sides."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    waves = [
        np.cos(40 * (columns - 0.5)),
        np.sin(50 * rows),
        np.cos(30 * rows) * np.cos(20 * (columns - 0.5)),
    ]
    return (140 + 60 * np.stack(waves, -1)).astype(np.uint8)


class Scene:
    """A head at 30 degrees, drawn with `symmetric_picture`, under a light from the side."""

    def __init__(self, folder, side_light: float = 0.0):
        self.topology = load_topology(folder)
        self.head = self.topology.only(*HEAD_PARTS)
        self.texels = uv_map(self.topology.only(FACE), SIZE)
        neutral = np.load(folder / "ict_facekit.npz")["neutral"]
        self.neutral = neutral - neutral[:9409].mean(0)
        self.vertices = placed(self.neutral, turn(30, 5))
        self.normals = vertex_normals(self.vertices, self.head)
        light = 1 + side_light * self.normals[:, :1].repeat(3, 1)
        image, _ = draw(view_of(900), self.vertices, self.head, {FACE: symmetric_picture()}, light)
        self.view = view_of(900, image)

    def unwrap(self, view: PhotoView | None = None):
        return unwrap(self.shown(view or self.view))

    def shown(self, view: PhotoView, vertices: np.ndarray | None = None):
        points = self.vertices if vertices is None else vertices
        return show(PosedHead(view, points, vertex_normals(points, self.head), self.head), self.texels)


@pytest.fixture(scope="module")
def scene(ict_facekit):
    return Scene(ict_facekit)


def test_seen_texels_are_those_of_the_photo(scene):
    texture = scene.unwrap()
    error = np.abs(texture.picture.astype(int) - symmetric_picture()).max(2)
    seen = texture.visibility == 255
    assert 0.3 < seen.mean() < 0.6
    assert error[seen].mean() < 2
    assert np.percentile(error[seen], 99) < 8


def test_the_hidden_side_is_the_mirror_image(scene):
    texture = scene.unwrap()
    error = np.abs(texture.picture.astype(int) - symmetric_picture()).max(2)
    mirrored = texture.visibility == MIRRORED
    assert mirrored.mean() > 0.1
    assert np.percentile(error[mirrored], 90) < 12
    cheeks = texture.visibility[SIZE // 2, [SIZE // 5, SIZE - SIZE // 5]]
    assert cheeks.tolist() == [255, MIRRORED]


def test_mirrored_texels_are_as_bright_as_what_is_beside_them(ict_facekit):
    """Under a light from the side a plain copy would show a step at the border of the mirrored part."""
    texture = Scene(ict_facekit, side_light=0.3).unwrap()
    flat = texture.picture / symmetric_picture().astype(float)
    row = slice(SIZE // 4, SIZE // 3)
    edge = int(np.argmax((texture.visibility[row] == MIRRORED).all(0)))
    assert edge > SIZE // 2
    before, after = flat[row, edge - 24 : edge - 12].mean(), flat[row, edge + 1 : edge + 13].mean()
    copy = flat[row, SIZE - edge - 13 : SIZE - edge - 1].mean()
    assert abs(after - before) < 0.4 * abs(copy - before)


def test_what_the_photo_hides_is_taken_from_another_as_bright_as_this_one(scene):
    picture = symmetric_picture()
    picture[:, SIZE // 2 :] = picture[:, SIZE // 2 :] // 2 + 60  # the sides differ: the mirror would be wrong
    first, _ = draw(view_of(900), scene.vertices, scene.head, {FACE: picture})
    turned = placed(scene.neutral, turn(-30, 5))
    second, _ = draw(view_of(900), turned, scene.head, {FACE: (picture * 0.7).astype(np.uint8)})
    shown = [scene.shown(view_of(900, first)), scene.shown(view_of(900, second), turned)]
    texture, alone = unwrap(shown[0], shown[1:]), unwrap(shown[0])
    error, before = (np.abs(t.picture.astype(int) - picture).max(2) for t in (texture, alone))
    added = (texture.visibility == 255) & (alone.visibility == MIRRORED)
    assert added.mean() > 0.1
    assert np.median(error[added]) < 8 < np.median(before[added])


def test_a_mirrored_photo_gives_the_mirrored_texture(scene):
    face = np.arange(9409)
    _, index = cKDTree(scene.neutral[face]).query(scene.neutral[face] * [-1, 1, 1])
    only_face = scene.topology.only(FACE)
    vertices = scene.vertices.copy()
    flipped = vertices.copy()
    flipped[face] = vertices[index] * [-1, 1, 1]
    textures = []
    for points, image in ((vertices, scene.view.image), (flipped, scene.view.image[:, ::-1].copy())):
        view = view_of(900, image)
        normals = vertex_normals(points, only_face)
        textures.append(unwrap(show(PosedHead(view, points, normals, only_face), scene.texels)))
    assert np.abs(textures[0].visibility.astype(int) - textures[1].visibility[:, ::-1]).mean() < 0.5
    assert np.abs(textures[0].picture.astype(int) - textures[1].picture[:, ::-1]).mean() < 0.5


def test_what_covers_the_skin_is_left_out(scene):
    image, mask = scene.view.image.copy(), np.full((900, 900), 255, np.uint8)
    image[:, :430], mask[:, :430] = (0, 255, 0), 0
    view = PhotoView(image, scene.view.focal, scene.view.centre, mask)
    texture = scene.unwrap(view)
    green = (texture.picture[..., 1] > 240) & (texture.picture[..., 0] < 20)
    assert not green.any()
    assert (texture.visibility == 255).mean() < (scene.unwrap().visibility == 255).mean()


def test_clothes_on_the_neck_are_no_skin(scene, ict_facekit):
    picture = np.full((SIZE, SIZE, 3), (205, 150, 125), np.uint8)
    picture[: SIZE // 4] = (180, 120, 100)
    picture[-SIZE // 5 :] = (30, 60, 200)
    image, _ = draw(view_of(900), scene.vertices, scene.head, {FACE: picture})
    area = face_area(scene.texels, tuple(load_face_model(ict_facekit).landmarks[17:27].tolist()))
    assert 0.1 < area.inner.mean() < 0.4
    assert (area.inner != area.inner[:, ::-1]).mean() < 0.002  # texels on an edge go to either side
    posed = PosedHead(view_of(900, image), scene.vertices, scene.normals, scene.head)
    plain = unwrap(show(posed, scene.texels)).picture
    texture = unwrap(show(posed, scene.texels, area))
    blue = plain[..., 2] > plain[..., 0]
    assert blue.mean() > 0.1
    assert (texture.picture[..., 2] < texture.picture[..., 0]).all()
    assert np.abs(texture.picture[-SIZE // 8, SIZE // 2] - [205.0, 150, 125]).max() <= 8, "the face's tone"
    # Skin above the brows stays as it is in the photo.
    assert texture.visibility[SIZE // 4 - 8, SIZE // 2] > 200
    assert np.abs(texture.picture[SIZE // 4 - 8, SIZE // 2] - [180.0, 120, 100]).max() <= 2


def test_a_head_outside_the_photo_is_grey_and_unseen(scene):
    away = PhotoView(scene.view.image, scene.view.focal, (-5000.0, 450.0))
    texture = scene.unwrap(away)
    assert texture.visibility.max() == 0
    assert texture.picture.max() == 0


def test_the_back_of_the_head_goes_on_with_the_colours_at_the_seam(scene):
    red = np.full((SIZE, SIZE, 3), (200, 100, 80), np.uint8)
    texels = uv_map(scene.topology.only(BACK_HEAD), 128)
    assert np.abs(continued(red, scene.topology, FACE, BACK_HEAD, texels) - [200, 100, 80]).max() <= 1
