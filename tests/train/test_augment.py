import math

import numpy as np
import pytest
from spheres import sphere_normals, sphere_row

from pipeline.evaluate.metrics import angular_error
from pipeline.regions import Region
from pipeline.samples.batch import collate
from pipeline.samples.sample import decode_row
from pipeline.train import augment
from pipeline.train.batches import augment_sample
from pipeline.train.config import AugmentConfig

SIZE = 128


def matrix_of(size: int, angle: float = 0.0, factor: float = 1.0, mirror: bool = False) -> np.ndarray:
    """The similarity about the centre: mirrors, enlarges, turns counterclockwise by degrees."""
    radians = math.radians(angle)
    linear = factor * np.array(
        [[math.cos(radians), math.sin(radians)], [-math.sin(radians), math.cos(radians)]]
    )
    linear = linear @ np.diag([-1.0 if mirror else 1.0, 1.0])
    centre = np.full(2, (size - 1) / 2)
    return np.column_stack([linear, centre - linear @ centre])


def ellipsoid(size: int) -> np.ndarray:
    """Unit normals of an ellipsoid that no rotation or mirror about the centre maps on itself."""
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns - (size - 1) / 2) / size, -(rows - (size - 1) / 2) / size
    # z = 0.3 - x^2 - 2 y^2 + 0.8 x y + 0.2 x: its normal is (-dz/dx, -dz/dy, 1).
    normals = np.stack([2 * x - 0.8 * y - 0.2, 4 * y - 0.8 * x, np.ones_like(x)], -1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals.astype(np.float32)


def sampled(size: int, points: np.ndarray) -> np.ndarray:
    """Normals of the same surface at picture coordinates (H, W, 2), by its formula."""
    x, y = (points[..., 0] - (size - 1) / 2) / size, -(points[..., 1] - (size - 1) / 2) / size
    normals = np.stack([2 * x - 0.8 * y - 0.2, 4 * y - 0.8 * x, np.ones_like(x)], -1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("angle", [0.0, 17.0, -33.0, 90.0])
def test_warped_normals_are_those_of_the_turned_surface(angle, mirror):
    matrix = matrix_of(SIZE, angle, 1.1, mirror)
    warped = augment.warp_normals(ellipsoid(SIZE), matrix)
    # The truth: look up the surface where the pixel came from, mirror its normal, then turn it.
    rows, columns = np.mgrid[:SIZE, :SIZE]
    target = np.stack([columns, rows], -1).astype(float)
    source = (target - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    truth = sampled(SIZE, source)
    if mirror:
        truth[..., 0] *= -1
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = truth[..., 0].copy(), truth[..., 1].copy()
    truth[..., 0], truth[..., 1] = cosine * x - sine * y, sine * x + cosine * y
    valid = warped.any(-1)
    assert valid.mean() > 0.5
    inner = valid & ((source > 2) & (source < SIZE - 3)).all(-1)
    assert angular_error(warped, truth)[inner].max() < 0.3


@pytest.mark.parametrize(("angle", "mirror"), [(0.0, True), (25.0, False), (-60.0, True)])
def test_a_centred_sphere_stays_the_same_sphere(angle, mirror):
    # A mistake in a sign would tilt the whole map.
    sphere = sphere_normals(SIZE)
    warped = augment.warp_normals(sphere, matrix_of(SIZE, angle, 1.0, mirror))
    inner = sphere[..., 2] > 0.3
    assert angular_error(warped, sphere)[inner].max() < 0.5


def test_drawn_matrices_are_similarities_about_the_centre():
    config = AugmentConfig(shift=0)
    rng = np.random.default_rng(0)
    mirrored = 0
    for _ in range(200):
        matrix = augment.draw_affine(rng, config, SIZE)
        linear = matrix[:, :2]
        factor = math.sqrt(abs(np.linalg.det(linear)))
        assert 1 - config.scale <= factor <= 1 + config.scale
        assert linear @ linear.T == pytest.approx(factor**2 * np.eye(2))
        centre = np.full(2, (SIZE - 1) / 2)
        assert linear @ centre + matrix[:, 2] == pytest.approx(centre)
        mirrored += np.linalg.det(linear) < 0
    assert 60 < mirrored < 140


def test_no_strength_leaves_geometry_and_light_alone():
    config = AugmentConfig(flip=0)
    rng = np.random.default_rng(0)
    assert augment.draw_affine(rng, config, SIZE, strength=0) == pytest.approx(np.eye(2, 3))
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    assert (augment.change_light(image, rng, config, strength=0) == image).all()


def test_picture_normals_and_regions_move_together():
    sample = decode_row(sphere_row(5, 64), None)
    config = AugmentConfig(rotation=20, border=0, colour=0, grey=0, blur=0, noise=0, jpeg=0)
    changed = augment_sample(sample, np.random.default_rng(2), config)
    skin, known = changed.regions == Region.SKIN, changed.normals.any(-1)
    assert (skin == known).mean() > 0.98
    # The background has one colour: what differs from it is the ball.
    background = sample.image[0, 0].astype(int)
    ball = np.abs(changed.image.astype(int) - background).max(-1) > 6
    inside = changed.regions != Region.IGNORE
    assert (ball == skin)[inside].mean() > 0.96


def test_outside_the_source_nothing_is_known():
    sample = decode_row(sphere_row(5, 64), None)
    config = AugmentConfig(flip=0, rotation=0, scale=0, shift=0.5, border=0)
    rng = np.random.default_rng(1)
    changed = augment_sample(sample, rng, config)
    outside = changed.regions == Region.IGNORE
    assert outside.any()
    assert not changed.normals[outside].any()


def test_beyond_the_end_of_a_picture_nothing_is_meant():
    sample = decode_row(sphere_row(5, 64), None)
    names = ("flip", "rotation", "scale", "shift", "colour", "grey", "blur", "noise", "jpeg")
    still = dict.fromkeys(names, 0)
    changed = augment_sample(sample, np.random.default_rng(0), AugmentConfig(border=1, **still))
    kept = (changed.image == sample.image).all(-1)
    assert 0.2 < kept.mean() < 0.9
    assert (changed.regions[kept] == sample.regions[kept]).all()
    lost = (sample.regions == Region.SKIN) & (changed.regions != Region.SKIN)
    assert lost.any()
    assert (changed.regions[lost] == Region.BACKGROUND).all()
    assert not changed.normals[lost].any()


def test_rows_without_regions_keep_labels_and_validity_in_step():
    sample = decode_row(sphere_row(5, 64, regions=None), None)
    changed = augment_sample(sample, np.random.default_rng(0), AugmentConfig())
    assert not changed.has_regions
    assert ((changed.regions == Region.SKIN) == changed.normals.any(-1)).all()


def test_light_changes_follow_the_generator_and_keep_the_type():
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    config = AugmentConfig(colour=1, grey=1, blur=1, noise=1, jpeg=1)
    first, again, other = (augment.change_light(image, np.random.default_rng(s), config) for s in (0, 0, 1))
    assert first.dtype == np.uint8
    assert first.shape == image.shape
    assert (first == again).all()
    assert (first != other).any()


def test_grey_pictures_have_three_equal_channels():
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    config = AugmentConfig(colour=0, grey=1, blur=0, noise=0, jpeg=0)
    grey = augment.change_light(image, np.random.default_rng(0), config)
    assert (grey == grey[..., :1]).all()


def test_jpeg_and_noise_do_not_swap_channels():
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 200
    config = AugmentConfig(colour=0, grey=0, blur=0, noise=1, jpeg=1)
    changed = augment.change_light(image, np.random.default_rng(0), config).astype(int)
    assert changed[..., 0].mean() > 150
    assert changed[..., 2].mean() < 50


def test_batches_hold_what_the_samples_hold():
    samples = [decode_row(sphere_row(i, 32), None) for i in range(3)]
    batch = collate(samples)
    assert batch.image.shape == batch.normals.shape == (3, 3, 32, 32)
    for i, sample in enumerate(samples):
        assert (batch.image[i].permute(1, 2, 0).numpy() == sample.image).all()
        lengths = batch.normals[i].square().sum(0).numpy()
        assert lengths == pytest.approx(sample.normals.any(-1).astype(float), abs=1e-5)
    only = collate(samples, normals=False)
    assert only.normals is None
    assert only.regions is None
    assert len(only) == 3
