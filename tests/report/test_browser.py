"""The report in a real browser: the light follows the pointer, and nothing else comes in or goes out."""

import base64
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, Page
from report_files import RUN, decode, read_files
from run_folder import RADIUS, face, failed, lit_crop, no_face, ok, sphere, write_run

from pipeline.normals.encoding import encode_normals
from pipeline.report.write import write_report

STILL = {"prefers-reduced-motion": "reduce"}
EVIL = "</script><script>hacked=1</script><img src=x onerror=hacked=1>\"' onload='hacked=1.jpg"


def write(folder: Path, convention: str = "opengl") -> str:
    """Writes a run of three faces, two of them in a photo with a hostile name; returns the page's URL."""
    grey = (0.4, 0.4, 0.4)
    bits = 16 if convention == "directx" else 8
    faces = [
        face(0, lit_crop((1, 0.3, 1), grey), bits, convention),
        face(1, lit_crop((-1, 0.3, 1), grey), bits, convention),
    ]
    rows = [
        ok(1, EVIL, faces),
        ok(2, "photos/second.jpg", [face(0, None, bits, convention)]),
        no_face(3, EVIL),
        failed(4, EVIL, "decode_failed", EVIL),
    ]
    run = RUN | {"config": {"output": {"convention": convention, "bits": bits}}, "input": EVIL}
    return "file://" + write_report(write_run(folder, [[rows]], run), read_files, decode)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def ready(page: Page, count: int = 1) -> None:
    """Waits until so many of the first cards are lit."""
    lit = "[...document.querySelectorAll('.card canvas')].filter(c => c.width === 256 && c.getContext('2d')"
    page.wait_for(f"{lit}.getImageData(128, 128, 1, 1).data[3] === 255).length >= {count}")


def canvas(page: Page, number: int = 0, selector: str = ".card canvas") -> np.ndarray:
    """Returns the pixels of a canvas, (H, W, 4) uint8."""
    page.settle()
    script = f"""(() => {{
        const c = document.querySelectorAll('{selector}')[{number}];
        const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let text = '';
        for (let i = 0; i < data.length; i += 4096)
            text += String.fromCharCode(...data.subarray(i, i + 4096));
        return [c.width, btoa(text)];
    }})()"""
    width, data = page.evaluate(script)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(-1, width, 4)


def over(page: Page, selector: str, x: float, y: float) -> tuple[float, float]:
    """Returns the point of an element at (x, y), each 0..1 from its upper left corner, scrolled into view."""
    script = f"""(() => {{
        const element = document.querySelector('{selector}');
        const box = () => element.getBoundingClientRect();
        if (box().bottom > innerHeight || box().top < 90) element.scrollIntoView({{block: 'center'}});
        return [box().left, box().top, box().width, box().height];
    }})()"""
    left, top, width, height = page.evaluate(script)
    return left + x * width, top + y * height


def halves(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """Returns the mean brightness of the left, right, upper and lower half of what is opaque."""
    grey, opaque = pixels[..., :3].mean(axis=-1), pixels[..., 3] == 255
    parts = (np.s_[:, :128], np.s_[:, 128:], np.s_[:128], np.s_[128:])
    left, right, upper, lower = (float(grey[part][opaque[part]].mean()) for part in parts)
    return left, right, upper, lower


def test_the_light_follows_the_pointer(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        page.move(*over(page, ".card .relit", 0.9, 0.5))
        from_right = canvas(page)
        left, right, upper, lower = halves(from_right)
        assert right > left + 40
        assert abs(upper - lower) < 12

        page.move(*over(page, ".card .relit", 0.1, 0.5))
        from_left = canvas(page)
        left, right, *_ = halves(from_left)
        assert left > right + 40

        page.move(*over(page, ".card .relit", 0.5, 0.1))
        *_, upper, lower = halves(canvas(page))
        assert upper > lower + 40

        # A sphere lit from the left is the mirror image of one lit from the right.
        assert np.abs(from_left[:, ::-1].astype(int) - from_right).max() <= 6
        # The highlight is where the normal halves the way from the lamp to the viewer: for a lamp at
        # x = 0.8, z = 0.6 the normal's x is 0.447.
        brightest = np.argmax(from_right[128, :, :3].sum(axis=-1, dtype=int) * (from_right[128, :, 3] == 255))
        assert abs((brightest - 127.5) / RADIUS - 0.447) < 0.25
        assert page.problems == []


def test_relit_only_where_the_mask_is_white(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        _, mask = sphere()
        alpha = canvas(page)[..., 3]
        assert alpha[mask == 0].max() == 0
        assert (alpha[mask > 0] == 255).mean() > 0.95


@pytest.mark.parametrize("convention", ["opencv", "directx"])
def test_every_convention_and_depth_gives_the_same_light(url, tmp_path, chromium, convention):
    pictures = []
    for address in (url, write(tmp_path / "run", convention)):
        with chromium.open(address, media=STILL) as page:
            ready(page)
            page.move(*over(page, ".card .relit", 0.7, 0.2))
            pictures.append(canvas(page).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 8


def test_modes(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page, 2)
        page.evaluate("document.querySelector('input[value=normals]').click()")
        normals, mask = sphere()
        shown = canvas(page)
        assert np.abs(shown[..., :3].astype(int) - encode_normals(normals))[mask > 0].max() <= 3

        # In colour the light of the photo is taken out: two crops of one sphere, lit from the right and
        # from the left, come out alike under a new light.
        page.evaluate("document.querySelector('input[value=colour]').click()")
        page.move(*over(page, ".card .relit", 0.5, 0.3))
        first, second = canvas(page, 0)[..., 0].astype(float), canvas(page, 1)[..., 0].astype(float)
        crops = [lit_crop((side, 0.3, 1), (0.4, 0.4, 0.4))[..., 0].astype(float) for side in (1, -1)]
        inside = (mask > 0) & (first > 0) & (second > 0)
        assert np.abs(first - second)[inside].mean() < 0.3 * np.abs(crops[0] - crops[1])[inside].mean()
        assert page.problems == []


def test_the_light_orbits_until_it_is_taken(url, chromium):
    with chromium.open(url) as page:
        ready(page)
        before = canvas(page)
        page.wait_for("performance.now() > 0")
        for _ in range(200):
            if not np.array_equal(before, canvas(page)):
                break
        else:
            pytest.fail("the light stands still")
        page.move(*over(page, ".card .relit", 0.3, 0.3))
        taken = canvas(page)
        assert page.evaluate("document.querySelector('#orbit').getAttribute('aria-pressed')") == "false"
        for _ in range(20):
            page.settle()
        assert np.array_equal(taken, canvas(page))


def test_the_light_rests_for_those_who_want_less_motion(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        before = canvas(page)
        for _ in range(20):
            page.settle()
        assert np.array_equal(before, canvas(page))


def test_keyboard(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        page.evaluate("document.querySelector('#dial').focus()")
        for _ in range(12):
            page.press("ArrowRight")
        left, right, *_ = halves(canvas(page))
        assert right > left + 40
        assert "right" in page.evaluate("document.querySelector('#dial').getAttribute('aria-valuetext')")

        page.evaluate("document.querySelectorAll('.card .caption button')[2].focus()")
        page.press("Enter")
        page.wait_for("document.querySelector('dialog').open")
        page.wait_for("document.querySelector('.large canvas').width === 640")
        assert page.evaluate("document.querySelector('dialog h2').textContent") == "second.jpg"
        assert page.evaluate("document.activeElement === document.querySelector('.large canvas')")
        before = canvas(page, 0, ".large canvas")
        page.press("ArrowUp")
        assert not np.array_equal(before, canvas(page, 0, ".large canvas"))
        page.evaluate("document.querySelector('#next').focus()")
        page.press("ArrowRight")
        page.wait_for("document.querySelector('dialog h2').textContent.includes('hacked')")
        page.press("Escape")
        page.wait_for("!document.querySelector('dialog').open")
        assert page.evaluate("document.activeElement === document.querySelector('.card .caption button')")
        assert page.problems == []


def test_touch_on_a_phone(url, chromium):
    with chromium.open(url, 390, 844, STILL, touch=True) as page:
        ready(page)
        pictures = []
        for x in (0.1, 0.9):
            start = over(page, ".card .relit", 0.5, 0.5)
            end = over(page, ".card .relit", x, 0.5)
            for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
                touches = [{"x": px, "y": py} for px, py in points]
                page.call("Input.dispatchTouchEvent", type=kind, touchPoints=touches)
                page.settle()
            pictures.append(halves(canvas(page)))
        assert pictures[0][0] > pictures[0][1] + 20
        assert pictures[1][1] > pictures[1][0] + 20
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.resize(320, 640)
        page.settle()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.problems == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_bar_covers_nothing_that_is_jumped_to_and_pictures_name_their_photo(url, chromium, width):
    with chromium.open(url, width, 844, STILL) as page:
        ready(page)
        covered = page.evaluate("""(() => {
            const bar = document.querySelector('.toolbar'), covered = [];
            for (const e of document.querySelectorAll('h2[id], .card button, .problem summary')) {
                if (e.closest('dialog')) continue;
                e.scrollIntoView({block: 'start', behavior: 'instant'});
                const top = e.getBoundingClientRect().top, lowest = bar.getBoundingClientRect().bottom;
                if (top < lowest && lowest > 0) covered.push(e.textContent);
            }
            return covered;
        })()""")
        assert covered == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cards = page.evaluate("""[...document.querySelectorAll('.card')].map(c => [
            c.querySelector('.caption button').textContent,
            ...[...c.querySelectorAll('img')].map(i => i.alt),
            c.querySelector('canvas').ariaLabel])""")
        assert len(cards) == 3
        for name, *texts in cards:
            assert texts
            assert all(name in text for text in texts)


def test_hostile_names_stay_text_and_nothing_is_fetched(url, chromium):
    with chromium.open(url, media=STILL) as page:
        ready(page)
        for number in range(3):
            page.evaluate(f"document.querySelectorAll('.card')[{number}].click()")
            page.settle()
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.evaluate("document.scripts.length") == 1
        name = page.evaluate("document.querySelector('.card .caption button').textContent")
        assert name.endswith("hacked=1.jpg")
        # The policy stops a script even where markup came through.
        picture = "<img src=https://example.org/x onerror='hacked=1'>"
        page.evaluate(f'document.body.insertAdjacentHTML("beforeend", "{picture}")')
        page.settle()
        assert page.evaluate("typeof hacked") == "undefined"
        assert any("Content Security Policy" in problem for problem in page.problems)
        assert page.requests[:1] == [url]
        assert len(page.requests) <= 2  # the second is the blocked one, as far as the browser lists it


def test_dark_and_light(url, chromium):
    backgrounds = []
    for scheme in ("light", "dark"):
        with chromium.open(url, media=STILL | {"prefers-color-scheme": scheme}) as page:
            colour = "getComputedStyle(document.body).backgroundColor"
            backgrounds.append(page.evaluate(colour))
            page.evaluate("document.querySelector('#theme').click()")
            backgrounds.append(page.evaluate(colour))
    assert backgrounds[0] == backgrounds[3] != backgrounds[1] == backgrounds[2]
