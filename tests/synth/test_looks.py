"""Looks of rendered heads: light, relief, hair, things, photo faults, and the whole."""

import math

import numpy as np
import pytest
import torch

from pipeline.geometry.cameras import Cameras
from pipeline.geometry.head_model import head_normals, load_face_model, rotate_eyes
from pipeline.regions import Region
from pipeline.synth import (
    accessories,
    background,
    chart,
    clothes,
    hair,
    light,
    looks,
    photo,
    shading,
    shadows,
    skin,
    skin_map,
    strands,
    wrinkles,
)
from pipeline.synth.gbuffer import render_gbuffer


@pytest.fixture(scope="module")
def model(ict_facekit):
    return load_face_model(ict_facekit)


@pytest.fixture(scope="module")
def props(model):
    return looks.Props(model, seed=3)


def frontal(model, count=1, size=96, distance=60.0):
    """Geometry buffer of neutral heads that look into the camera."""
    vertices = model.neutral[None].expand(count, -1, -1)
    vertices, eyes = rotate_eyes(model, vertices, torch.zeros(count, 2))
    cameras = Cameras(
        rotation=torch.eye(3).expand(count, 3, 3),
        translation=torch.tensor([0.0, -1.0, -distance]).expand(count, 3),
        focal=torch.full((count,), size * distance / 32),
        centre=torch.full((count, 2), (size - 1) / 2),
    )
    normals = head_normals(model, vertices, eyes)
    return render_gbuffer(model, vertices, normals, mouth_open=torch.zeros(count), cameras=cameras, size=size)


def plain_light(**changes):
    """Stacked numbers of one dark sample, changed."""
    numbers = {
        "constant": torch.zeros(1, 3),
        "directions": torch.tensor([[[0.0, 0.0, 1.0]] * light.LOBES]),
        "sharpness": torch.ones(1, light.LOBES),
        "flux": torch.zeros(1, light.LOBES, 3),
        "lamps": torch.tensor([[[0.0, 0.0, 1.0]] * light.LAMPS]),
        "power": torch.zeros(1, light.LAMPS, 3),
        "wrap": torch.ones(1),
    }
    return numbers | changes


def sphere(count=2000):
    """Points and normals of the visible side of a sphere of matte grey."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(count, 3))
    normal[:, 2] = np.abs(normal[:, 2])
    normal = torch.tensor(normal / np.linalg.norm(normal, axis=1, keepdims=True), dtype=torch.float32)
    one, of = torch.ones(count), torch.zeros(count, dtype=torch.int64)
    points = shading.LitPoints(normal * 5 + torch.tensor([0, 0, -1000.0]), normal, normal, one, of)
    return points, skin.Paint(torch.full((count, 3), 0.5), 0 * one, 0.5 * one, 0 * one)


# Light


def test_lamp_lights_a_matte_sphere_by_the_cosine():
    points, paint = sphere()
    toward = torch.tensor([0.6, 0.0, 0.8])
    numbers = plain_light(
        lamps=toward.expand(1, light.LAMPS, 3), power=torch.tensor([[[math.pi] * 3] + [[0.0] * 3] * 2])
    )
    radiance = shading.shade(points, paint, numbers, [torch.ones(len(points.of))])
    expected = 0.5 * (points.normal @ toward).clamp(min=0)
    torch.testing.assert_close(radiance, expected[:, None].expand(-1, 3), atol=1e-5, rtol=1e-4)


def test_bleeding_skin_is_lit_beyond_the_terminator_and_there_it_is_red():
    points, paint = sphere()
    paint = skin.Paint(paint.albedo, paint.gloss, paint.roughness, torch.ones_like(paint.gloss))
    numbers = plain_light(
        lamps=torch.tensor([1.0, 0.0, 0.0]).expand(1, light.LAMPS, 3),
        power=torch.tensor([[[1.0] * 3] + [[0.0] * 3] * 2]),
    )
    radiance = shading.shade(points, paint, numbers, [torch.ones(len(points.of))])
    dusk = (points.normal[:, 0] < -0.02) & (points.normal[:, 0] > -0.06)
    assert dusk.any()
    assert (radiance[dusk, 0] > 0).all()
    assert (radiance[dusk, 0] > radiance[dusk, 2]).all()


def test_harmonics_of_a_constant_surrounding_light_every_normal_alike():
    points, _ = sphere()
    numbers = plain_light(constant=torch.tensor([[0.2, 0.4, 0.8]]))
    got = shading.basis(points.normal) @ shading.reflected_light(
        numbers["constant"], numbers["directions"], numbers["sharpness"], numbers["flux"]
    )
    torch.testing.assert_close(got[0], torch.tensor([[0.2, 0.4, 0.8]]).expand_as(got[0]))


def test_harmonics_of_a_lobe_come_near_its_integral():
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(200_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    axis, sharp, flux = np.array([0.6, 0.0, 0.8]), 2.0, 3.0
    density = np.exp(sharp * (directions @ axis - 1))
    density *= flux / density.mean() / (4 * np.pi)
    coefficients = shading.reflected_light(
        torch.zeros(1, 3),
        torch.tensor(axis, dtype=torch.float32).expand(1, 1, 3),
        torch.full((1, 1), sharp),
        torch.full((1, 1, 3), flux),
    )
    for normal in ([0.6, 0, 0.8], [0, 1.0, 0], [0.8, 0, -0.6]):
        exact = (density * np.clip(directions @ normal, 0, None)).mean() * 4
        got = float((shading.basis(torch.tensor(normal)) @ coefficients[0])[0])
        assert got == pytest.approx(exact, abs=0.03)


def test_nose_throws_a_shadow_away_from_the_lamp(model, props):
    gbuffer = frontal(model)
    lamp = torch.from_numpy(light.direction(70, 0))[None]
    maps = shadows.shadow_maps(gbuffer.vertices, props.casters, lamp, torch.tensor([0.3]))
    lit = shadows.lit_share(gbuffer.surface.position, gbuffer.surface.image, maps)
    rest = gbuffer.surface.rest
    near = (rest[:, 1].abs() < 1.0) & (rest[:, 2] > 8)
    right_side, left_side = (near & (s * rest[:, 0] > 2.2) & (s * rest[:, 0] < 3.5) for s in (1, -1))
    assert lit[right_side].mean() > 0.95
    assert lit[left_side].mean() < 0.35
    assert lit.min() >= 0
    assert lit.max() <= 1


def test_shares_of_lights_are_as_documented():
    kinds = [light.draw_light(np.random.default_rng(k)).kind for k in range(600)]
    assert set(kinds) == set(light.KINDS)
    portraits = {light.draw_light(np.random.default_rng(k), portrait=True).kind for k in range(60)}
    assert portraits == {"soft", "window", "overcast"}


def test_exposure_brings_dark_and_light_scenes_to_the_same_face():
    of = torch.tensor([0] * 50 + [1] * 50)
    radiance = torch.cat([torch.full((50, 3), 0.01), torch.full((50, 3), 5.0)])
    one = torch.ones(2)
    scale = shading.develop_exposure(radiance, of >= 0, of, 0.2 * one, 0.3 * one)
    # Highlights above 4 are not metered.
    torch.testing.assert_close(scale, torch.tensor([20.0, 0.05]))


def test_tone_curve_rises_and_stays_in_range():
    values = shading.tone_curve(torch.linspace(0, 50, 5000))
    assert values[0] == 0
    assert (values.diff() >= 0).all()
    assert values[-1] <= 1


# Relief


def test_bump_lit_from_above_is_bright_on_its_upper_side():
    # A horizontal ridge at y = 0 on the front of the head: h = exp(-y^2), slope by y = -2 y h.
    y = torch.tensor([0.5, -0.5])
    slope = -2 * y * torch.exp(-y * y)
    rest = torch.stack([torch.zeros(2), y, torch.full((2,), 12.0)], 1)
    gradient = chart.surface_gradient(torch.stack([torch.zeros(2), slope], 1), rest)
    smooth = torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3)
    normal = wrinkles.perturb_normals(smooth, gradient, torch.eye(3))
    torch.testing.assert_close(torch.linalg.vector_norm(normal, dim=1), torch.ones(2))
    above = torch.tensor([0.0, 1.0, 0.0])
    assert normal[0] @ above > 0.3
    assert normal[1] @ above < -0.3


def test_perturbed_normal_follows_the_heads_rotation():
    gradient = torch.tensor([[0.0, 0.4, 0.0]])
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1.0]])  # rolls the head by 90 degrees
    normal = wrinkles.perturb_normals(torch.tensor([[0.0, 0, 1]]), gradient, turn)
    torch.testing.assert_close(normal[0] / normal[0, 2], torch.tensor([0.4, 0, 1]), atol=0.02, rtol=0)


def test_chart_gradient_is_that_of_the_painted_height():
    # A height of space, painted into a map through the chart, must come back with its own gradient.
    theta = chart.column_angles()[None]
    y = chart.TOP - np.arange(chart.MAP_HEIGHT)[:, None] / chart.ROWS_PER_CM
    height = 0.05 * np.sin(3 * theta + 0.8 * y)
    by_theta, by_y = wrinkles.slopes(height)
    maps = torch.tensor(np.stack([height, by_theta, by_y], -1)[None], dtype=torch.float32)
    rng = np.random.default_rng(2)
    angle, level = rng.uniform(-1.5, 1.5, 400), rng.uniform(-9, 12, 400)
    radius = rng.uniform(7, 11, 400)
    point = np.stack([radius * np.sin(angle), level, chart.AXIS_Z + radius * np.cos(angle)], 1)
    rest = torch.tensor(point, dtype=torch.float32)
    found = chart.sample_map(maps, torch.zeros(400, dtype=torch.int64), rest)
    np.testing.assert_allclose(found[:, 0], 0.05 * np.sin(3 * angle + 0.8 * level), atol=1e-3)
    slope = 0.05 * np.cos(3 * angle + 0.8 * level)
    around = np.stack([np.cos(angle), 0 * angle, -np.sin(angle)], 1) * (3 * slope / radius)[:, None]
    expected = around + np.array([0, 1.0, 0]) * (0.8 * slope)[:, None]
    np.testing.assert_allclose(chart.surface_gradient(found[:, 1:], rest), expected, atol=2e-3)


def test_grain_gradient_is_that_of_its_values():
    grain = wrinkles.Grain()
    points = torch.tensor(np.random.default_rng(3).uniform(-10, 10, (3000, 3)), dtype=torch.float32)
    values, gradients = grain(points)
    assert values.std(0) == pytest.approx(np.ones(4), abs=0.25)
    step = 0.02
    for axis in range(3):
        offset = torch.zeros(3)
        offset[axis] = step
        slope = (grain(points + offset)[0] - grain(points - offset)[0]) / (2 * step)
        for band in range(4):
            # Trilinear interpolation flattens the finest band, four voxels long, a little.
            match = torch.corrcoef(torch.stack([slope[:, band], gradients[:, band, axis]]))[0, 1]
            assert match > 0.9
    slopes = torch.tensor([0.1, 0.05, 0.02, 0.01])
    rms = wrinkles.grain_gradient(gradients, slopes).square().sum(1).mean().sqrt()
    assert float(rms) == pytest.approx(float(slopes.square().sum().sqrt()), rel=0.25)


def test_old_faces_are_more_wrinkled():
    landmarks = np.random.default_rng(0).uniform(120, 400, (68, 2))
    lips = np.zeros((chart.MAP_HEIGHT, chart.MAP_WIDTH), np.float32)

    def steepness(age):
        return np.mean(
            [
                np.abs(wrinkles.paint_relief(landmarks, age, lips, np.random.default_rng(k)).height).mean()
                for k in range(3)
            ]
        )

    assert steepness(0.95) > 2.5 * steepness(0.05)


# Paint


def test_skin_maps_repeat_and_differ(model):
    landmarks = model.neutral[model.landmarks].numpy()
    first, again, other = (skin_map.paint_map(np.random.default_rng(k), landmarks) for k in (1, 1, 2))
    assert first.shape == (chart.MAP_HEIGHT, chart.MAP_WIDTH, skin_map.CHANNELS)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    column, row = chart.to_texels(landmarks[51] * 0.5 + landmarks[57] * 0.5).round().astype(int)
    assert first[row, column, skin_map.LIPS] > 0.7
    assert first[5, chart.MAP_WIDTH // 2, skin_map.SCALP] > 0.5
    assert first[-5, chart.MAP_WIDTH // 2, skin_map.SCALP] == 0


def test_tones_run_from_light_to_dark_and_all_occur():
    drawn = [skin.draw_complexion(np.random.default_rng(k)) for k in range(300)]
    luminance = [np.mean([c.skin.mean() for c in drawn if c.tone == tone]) for tone in range(12)]
    assert (np.diff(luminance) < 0).all()
    assert luminance[0] > 8 * luminance[11]


def test_iris_and_pupil_are_in_the_middle_of_the_eye():
    numbers = looks.stack([skin.draw_complexion(np.random.default_rng(0))], torch.device("cpu"))
    offset = torch.tensor([[0.0, 0, 1.6], [0.5, -0.2, 1.5], [1.3, 0, 0.9]])
    zero = torch.zeros(3, dtype=torch.int64)
    paint = skin.colour_eyes(offset, torch.zeros(3, 3), torch.zeros(3), numbers, zero)
    pupil, iris, white = paint.albedo.mean(1)
    assert pupil < iris < white


@pytest.mark.parametrize("kind", background.KINDS)
def test_backgrounds_of_each_kind(kind):
    image = background.paint_background(np.random.default_rng(4), kind)
    assert image.shape == (background.SIZE, background.SIZE, 3)
    assert 0 <= image.min() <= image.max() <= 1
    assert image.std() > 0.002


def test_background_window_is_mirrored():
    ramp = (
        torch.linspace(0, 1, background.SIZE)
        .expand(background.SIZE, -1)[None, ..., None]
        .expand(-1, -1, -1, 3)
    )
    numbers = {
        "scale": torch.tensor([0.5, 0.5]),
        "corner": torch.tensor([[0.0, 0.0], [0.0, 0.0]]),
        "mirror": torch.tensor([1.0, -1.0]),
        "tint": torch.ones(2, 3),
    }
    left, right = background.place_backgrounds(ramp, torch.tensor([0, 0]), numbers, 32)
    assert left[0, 0, 0] < left[0, -1, 0] < 0.52
    torch.testing.assert_close(right, 1 - left, atol=1e-3, rtol=0)


# Hair, things, clothes


def test_strands_start_on_the_scalp_and_stay_outside_the_head(model):
    salon = hair.Salon(model)
    cloud = salon.grow(np.random.default_rng(6))
    assert cloud.shape == (hair.POINTS, hair.ATTRIBUTES)
    assert np.isfinite(cloud).all()
    np.testing.assert_allclose(np.linalg.norm(cloud[:, 3:6], axis=1), 1, atol=1e-3)
    nose = model.neutral[model.landmarks[33]].numpy()
    assert np.linalg.norm(cloud[:, :3] - nose, axis=1).min() > 0.5
    np.testing.assert_array_equal(cloud, salon.grow(np.random.default_rng(6)))


def test_splats_keep_the_nearest_and_respect_the_surface():
    cameras = Cameras(
        rotation=torch.eye(3)[None],
        translation=torch.zeros(1, 3),
        focal=torch.tensor([100.0]),
        centre=torch.tensor([[7.5, 7.5]]),
    )
    # Two points in the same pixel at depths 50 and 40, one to the right of them at depth 50.
    points = torch.zeros(1, 3, 8)
    points[0, :, 2] = torch.tensor([-50.0, -40.0, -50.0])
    points[0, 2, 0] = 2.0
    attachment = torch.cat([torch.eye(3), torch.zeros(1, 3)])[None]
    first = torch.tensor([0])
    clouds = strands.Clouds(points, first, attachment, first)
    surface = torch.zeros(1, 16, 16)
    free = strands.splat(clouds, surface, cameras)
    assert free.point.tolist() == [1, 2]
    assert len(free.pixel) == 8
    surface[0, :, 10:] = 45.0
    behind = strands.splat(clouds, surface, cameras)
    assert behind.point.tolist() == [1]
    layer = strands.compose(behind, torch.ones(1, 3))
    assert float(layer.alpha.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(layer.rgb[..., 0], layer.alpha)


def test_attachment_recovers_an_affine_motion():
    generator = torch.Generator().manual_seed(0)
    neutral = torch.randn(50, 3, generator=generator) * 8
    motion = torch.randn(1, 4, 3, generator=generator)
    posed = torch.cat([neutral, torch.ones(50, 1)], 1) @ motion
    torch.testing.assert_close(strands.attach(neutral, posed), motion, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["glasses", "sun", "cap", "hand", "microphone", "card", "ball"])
def test_things_of_each_kind(kind):
    cloud = accessories.paint_accessory(np.random.default_rng(8), kind)
    assert cloud.shape == (accessories.POINTS, accessories.ATTRIBUTES)
    assert np.isfinite(cloud).all()
    np.testing.assert_allclose(np.linalg.norm(cloud[:, 3:6], axis=1), 1, atol=1e-3)
    assert cloud[:, 6:10].min() >= 0
    assert cloud[:, 6:10].max() <= 1
    again = accessories.paint_accessory(np.random.default_rng(8), kind)
    np.testing.assert_array_equal(cloud, again)


def test_collar_covers_the_neck_and_not_the_face():
    outfit = clothes.Outfit(
        collar=-11.0,
        collar_slope=0.0,
        cap=99.0,
        hood=99.0,
        mask=0.0,
        colour=np.array([0.1, 0.2, 0.3], np.float32),
        second=np.zeros(3, np.float32),
        stripes=0.0,
    )
    numbers = looks.stack([outfit], torch.device("cpu"))
    rest = torch.tensor([[0.0, -13, 5], [0, -9, 9], [0, 2, 12], [0, 13, 3]])
    where, colour = clothes.dress(rest, numbers, torch.zeros(4, dtype=torch.int64))
    assert where.tolist() == [0]
    torch.testing.assert_close(colour, torch.tensor([[0.1, 0.2, 0.3]]))


# Photo


def test_no_faults_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    got = photo.apply_faults(image.astype(np.float32) / 255, photo.Faults(), np.random.default_rng(0))
    np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize(
    ("faults", "check"),
    [
        (photo.Faults(gain=2.0), lambda a, b: b.mean() > 1.3 * a.mean()),
        (photo.Faults(grey=True), lambda _, b: (np.ptp(b.astype(int), axis=2) == 0).all()),
        (photo.Faults(noise=10.0), lambda a, b: 4 < (b.astype(float) - a).std() < 20),
        (photo.Faults(blur=2.0), lambda a, b: b.astype(float).std() < 0.9 * a.std()),
        (photo.Faults(motion=(6.0, 0.0)), lambda a, b: b.astype(float).std() < 0.98 * a.std()),
        (photo.Faults(shrink=4.0), lambda a, b: b.astype(float).std() < 0.98 * a.std()),
        (photo.Faults(sharpen=1.0), lambda a, b: b.astype(float).std() > 1.02 * a.std()),
        (photo.Faults(border=(0.1, 0, 0, 0)), lambda _, b: (b[:6] == 0).all() and b[8:].any()),
        (photo.Faults(vignette=0.5), lambda a, b: b[0, 0].mean() < 0.7 * a[0, 0].mean()),
    ],
)
def test_each_fault_does_what_it_says(astronaut, faults, check):
    image = astronaut[:256:4, 100:356:4]
    got = photo.apply_faults(image.astype(np.float32) / 255, faults, np.random.default_rng(1))
    assert got.shape == image.shape
    assert got.dtype == np.uint8
    assert check(image, got)


def test_one_in_eight_photos_is_grey():
    grey = [photo.draw_faults(np.random.default_rng(k)).grey for k in range(800)]
    assert 0.08 < np.mean(grey) < 0.16
    assert not any(photo.draw_faults(np.random.default_rng(k), portrait=True).grey for k in range(50))


# The whole


def test_looks_do_not_depend_on_the_batch(model, props):
    drawn = [looks.draw(np.random.default_rng(k)) for k in range(4)]
    together = looks.render_looks(props, frontal(model, 4), drawn, [0, 0, 1, 1])
    for k in (0, 3):
        alone = looks.render_looks(looks.Props(model, seed=3), frontal(model), drawn[k : k + 1], [k // 2])
        torch.testing.assert_close(alone.rgb[0], together.rgb[k], atol=2e-3, rtol=0)
        torch.testing.assert_close(alone.normal[0], together.normal[k], atol=1e-4, rtol=0)
        assert (alone.region[0] == together.region[k]).float().mean() > 0.999


def test_looks_are_finite_and_their_normals_unit(model, props):
    gbuffer = frontal(model, 6)
    drawn = [looks.draw(np.random.default_rng(100 + k), portrait=k % 2 == 0) for k in range(6)]
    rendered = looks.render_looks(props, gbuffer, drawn, range(6))
    assert torch.isfinite(rendered.rgb).all()
    assert rendered.rgb.min() >= 0
    assert rendered.rgb.max() <= 1
    length = torch.linalg.vector_norm(rendered.normal, dim=-1)
    torch.testing.assert_close(length, (gbuffer.depth > 0).float(), atol=1e-4, rtol=0)
    turned = (rendered.normal * gbuffer.dense(gbuffer.surface.normal)).sum(-1)[gbuffer.depth > 0]
    assert turned.mean() > 0.95  # relief is detail, not another shape
    assert turned.min() < 0.999
    known = {int(region) for region in Region}
    assert set(rendered.region.unique().tolist()) <= known
    generators = [np.random.default_rng(k) for k in range(6)]
    image = looks.develop(rendered.rgb, drawn, generators)
    assert image.dtype == torch.uint8
    assert image.shape == rendered.rgb.shape


def test_tags_are_plain_numbers_and_words():
    tags = looks.draw(np.random.default_rng(0)).tags()
    assert {"skin_tone", "light"} <= set(tags)
    assert all(isinstance(value, (bool, int, float, str)) for value in tags.values())


def test_no_face_mask_over_an_open_mouth():
    """And everything else is drawn as if there were none."""
    masked = [k for k in range(200) if looks.draw(np.random.default_rng(k)).outfit.mask]
    assert 1 <= len(masked) <= 15
    closed, opened = (looks.draw(np.random.default_rng(masked[0]), mouth_open=jaw) for jaw in (0.05, 0.5))
    assert closed.outfit.mask
    assert not opened.outfit.mask
    assert opened.tags() == closed.tags()


@pytest.mark.gpu
def test_looks_on_cuda_match_cpu(ict_facekit):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    drawn = [looks.draw(np.random.default_rng(k)) for k in range(4)]
    results = []
    for device in ("cpu", "cuda"):
        model = load_face_model(ict_facekit, device)
        gbuffer = frontal(model, 4) if device == "cpu" else _to_cuda(frontal, model)
        results.append(
            looks.render_looks(looks.Props(model, 3, device), gbuffer, drawn, [0, 0, 1, 1]).rgb.cpu()
        )
    assert (results[0] - results[1]).abs().mean() < 5e-3


def _to_cuda(build, model):
    with torch.device("cuda"):
        return build(model, 4)


def test_rasteriser_and_shadows_share_conventions(model, props):
    """A point seen by the camera is lit by a lamp at the camera."""
    gbuffer = frontal(model)
    maps = shadows.shadow_maps(
        gbuffer.vertices, props.casters, torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0.2])
    )
    lit = shadows.lit_share(gbuffer.surface.position, gbuffer.surface.image, maps)
    assert lit.mean() > 0.93
