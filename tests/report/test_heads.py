"""The page of heads in a real browser: it draws what the rasteriser draws, and moves as it is told."""

import base64
import json

import cv2
import numpy as np
import pytest
from chromium import Browser, Page
from head_pictures import draw, placed, turn, view_of

from pipeline.geometry.arkit import arkit_targets
from pipeline.geometry.head_model import load_face_model
from pipeline.geometry.mesh import EYES, FACE, HEAD_PARTS, TEETH, load_topology, vertex_normals
from pipeline.geometry.mesh_files import Material, Mesh
from pipeline.images.png import encode_png
from pipeline.report.heads import HeadView, head_page

STILL = {"prefers-reduced-motion": "reduce"}
EVIL = "</script><script>hacked=1</script><img src=x onerror=hacked=1>\"'.jpg"
SIZE = 480
ROTATION = turn(-20, 8)
WEIGHTS = {"jawOpen": 0.5, "mouthSmileLeft": 0.6}


def flat_map() -> bytes:
    picture = np.empty((64, 64, 3), np.uint8)
    picture[:] = 128, 128, 255
    return encode_png(picture)


@pytest.fixture(scope="module")
def scene(ict_facekit):
    """A head with an open mouth: its mesh in head space and in camera space."""
    model, topology = load_face_model(ict_facekit), load_topology(ict_facekit)
    neutral = model.neutral.numpy() - model.neutral[:9409].mean(0).numpy()
    targets = arkit_targets(model, neutral)
    vertices = neutral + sum(weight * targets[name] for name, weight in WEIGHTS.items())
    skin = np.full((64, 64, 3), (210, 160, 140), np.uint8)
    skin[:20] = 60, 40, 30
    materials = dict.fromkeys(HEAD_PARTS, Material())
    materials[FACE] = Material(texture=encode_png(skin), normal_map=flat_map())
    materials |= {TEETH: Material((0.8, 0.8, 0.7))} | dict.fromkeys(EYES, Material((0.9, 0.9, 0.9)))
    mesh = Mesh(vertices.astype(np.float32), topology, materials, targets, WEIGHTS)
    return mesh, placed(mesh.vertices, ROTATION)


@pytest.fixture(scope="module")
def url(scene, tmp_path_factory):
    mesh, vertices_camera = scene
    view = view_of(SIZE)
    photo, _ = draw(view, vertices_camera, mesh.drawn, {})
    heads = [
        HeadView(
            name=name,
            photo=cv2.imencode(".jpg", photo)[1].tobytes(),
            size=(SIZE, SIZE),
            focal=view.focal,
            centre=view.centre,
            mesh=mesh,
            rotation=ROTATION,
            translation=np.array([0, 0, -80]),
            facts=[("Photo", name)],
        )
        for name in ("first.jpg", EVIL)
    ]
    path = tmp_path_factory.mktemp("page") / "heads.html"
    path.write_text(head_page(heads), "utf-8")
    return f"file://{path}"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def ready(page: Page) -> None:
    page.wait_for("document.documentElement.dataset.drawn === 'yes'")


def problems(page: Page) -> list[str]:
    """What the page complained of; a browser without a GPU complains of reading pixels, too."""
    return [text for text in page.problems if "GL Driver Message (OpenGL, Performance" not in text]


def canvas(page: Page, selector: str) -> np.ndarray:
    """Returns the pixels of a canvas, (H, W, 4) int."""
    page.settle()
    address = page.evaluate(f"document.querySelector('{selector}').toDataURL()")
    data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA).astype(int)


def choose(page: Page, mode: str) -> None:
    page.evaluate(f"document.querySelector('input[value={mode}]').click()")


def click(page: Page, button: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(button)}).click()")


def test_the_head_lies_over_the_photo_as_the_rasteriser_has_it(scene, url, chromium):
    mesh, vertices_camera = scene
    with chromium.open(url, media=STILL) as page:
        ready(page)
        choose(page, "normals")
        click(page, "#details")
        shown = canvas(page, "#over")
        side = len(shown)
        view = view_of(side)
        normals = vertex_normals(vertices_camera, mesh.drawn)
        white = dict.fromkeys(HEAD_PARTS, np.full((4, 4, 3), 255, np.uint8))
        picture, part = draw(view, vertices_camera, mesh.drawn, white, (normals + 1) / 2)
        covered, expected = shown[..., 3] > 127, part >= 0
        assert (covered & expected).sum() / (covered | expected).sum() > 0.99
        inside = cv2.erode((covered & expected).astype(np.uint8), np.ones((5, 5))) > 0
        difference = np.abs(shown[..., :3] - picture)[inside]
        assert np.median(difference) <= 2
        assert np.percentile(difference, 95) < 8
        assert problems(page) == []
        assert page.requests == [url]


def test_a_flat_normal_map_is_none(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        for mode in ("clay", "normals"):
            choose(page, mode)
            with_details = canvas(page, "#view")
            click(page, "#details")
            assert np.abs(with_details - canvas(page, "#view")).max() <= 4
            click(page, "#details")


def test_modes_wire_and_light(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        pictures = [canvas(page, "#view")]
        for mode in ("clay", "normals"):
            choose(page, mode)
            pictures.append(canvas(page, "#view"))
        choose(page, "clay")
        click(page, "#wire")
        pictures.append(canvas(page, "#view"))
        click(page, "#wire")
        set_slider(page, "#light", -80)
        pictures.append(canvas(page, "#view"))
        for number, first in enumerate(pictures):
            for second in pictures[number + 1 :]:
                assert np.abs(first - second).mean() > 1
        lit = pictures[-1][..., 0]
        rows, columns = np.nonzero(pictures[-1][..., 3] == 255)
        middle = np.median(columns)
        brightness = lit[rows, columns]
        assert brightness[columns < middle].mean() > brightness[columns > middle].mean() + 30


def set_slider(page: Page, selector: str, value: float) -> None:
    change = f"s.value = {value}; s.dispatchEvent(new Event('input'));"
    page.evaluate(f"(s => {{ {change} }})(document.querySelector('{selector}'))")


def test_expression_sliders(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        jaw = "[data-target=jawOpen]"
        assert page.evaluate(f"document.querySelector('{jaw}').value") == "0.5"
        assert page.evaluate("document.querySelectorAll('[data-target]').length") == 51
        before = canvas(page, "#view")
        set_slider(page, jaw, 1)
        opened = canvas(page, "#view")
        click(page, "#neutral")
        neutral = canvas(page, "#view")
        assert page.evaluate(f"document.querySelector('{jaw}').value") == "0"
        assert np.abs(opened - before).mean() > 0.3
        assert np.abs(neutral - opened).mean() > 0.6
        click(page, "#fitted")
        assert np.array_equal(canvas(page, "#view"), before)


def test_keyboard(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        before = canvas(page, "#view")
        page.evaluate("document.querySelector('#view').focus()")
        for _ in range(3):
            page.press("ArrowRight")
        turned = canvas(page, "#view")
        assert np.abs(turned - before).mean() > 3
        page.press("+")
        assert (canvas(page, "#view")[..., 3] > 0).sum() > (turned[..., 3] > 0).sum()
        click(page, "#front")
        assert np.array_equal(canvas(page, "#view"), before)


@pytest.mark.slow
def test_it_turns_unless_less_motion_is_wanted(url, chromium):
    with chromium.open(url) as page:
        ready(page)
        assert page.evaluate("document.querySelector('#turn').getAttribute('aria-pressed')") == "true"
        before = canvas(page, "#view")
        for _ in range(100):
            if not np.array_equal(before, canvas(page, "#view")):
                break
        else:
            pytest.fail("the head stands still")
    with chromium.open(url, media=STILL) as page:
        ready(page)
        assert page.evaluate("document.querySelector('#turn').getAttribute('aria-pressed')") == "false"


@pytest.mark.slow
def test_phone_and_hostile_names(url, chromium):
    with chromium.open(url, 390, 844, STILL, touch=True) as page:
        ready(page)
        click(page, '[data-head="1"]')
        ready(page)
        assert page.evaluate("document.querySelector('[data-facts=\"1\"]').hidden") is False
        assert page.evaluate("document.querySelector('[data-facts=\"0\"]').hidden") is True
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.evaluate("document.querySelector('[data-facts=\"1\"] dd').textContent") == EVIL
        for width in (390, 320):
            page.resize(width, 700)
            page.settle()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert problems(page) == []
