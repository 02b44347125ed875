"""The rasteriser against a ray caster, analytic spheres and its own promises."""

import numpy as np
import pytest
import torch

from pipeline.geometry import raster
from pipeline.geometry.cameras import Cameras

SIZE = 96


def sphere(rings: int = 48, radius: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Closed mesh of a sphere about the origin: vertices (V, 3), triangles (T, 3) counter-clockwise."""
    polar = torch.linspace(0, torch.pi, rings)
    around = torch.arange(2 * rings) * (torch.pi / rings)
    p, a = torch.meshgrid(polar, around, indexing="ij")
    vertices = radius * torch.stack([p.sin() * a.sin(), p.cos(), p.sin() * a.cos()], -1).reshape(-1, 3)
    columns = 2 * rings
    i, j = torch.meshgrid(torch.arange(rings - 1), torch.arange(columns), indexing="ij")
    upper, right = i * columns + j, i * columns + (j + 1) % columns
    lower, across = upper + columns, right + columns
    first = torch.stack([upper, lower, right], -1).reshape(-1, 3)
    second = torch.stack([right, lower, across], -1).reshape(-1, 3)
    return vertices, torch.cat([first, second])


def soup(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random triangles in front of a camera at the origin: vertices (1, 3 * count, 3), triangles."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform([-12, -12, -60], [12, 12, -20], (count, 1, 3))
    corners = middle + rng.normal(0, 2.5, (count, 3, 3))
    vertices = torch.from_numpy(corners.reshape(1, -1, 3).astype(np.float32))
    return vertices, torch.arange(3 * count).reshape(-1, 3)


def cameras(batch: int = 1, focal: float = 2.0 * SIZE, distance: float = 0.0) -> Cameras:
    return Cameras(
        rotation=torch.eye(3).expand(batch, 3, 3),
        translation=torch.tensor([0.0, 0.0, -distance]).expand(batch, 3),
        focal=torch.full((batch,), focal),
        centre=torch.full((batch, 2), (SIZE - 1) / 2),
    )


def cast_rays(vertices: np.ndarray, triangles: np.ndarray, focal: float, cull: bool):
    """Brute force in double precision: triangle (-1: none), depth, barycentrics of every pixel's ray."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    centre = (SIZE - 1) / 2
    rays = np.stack([(columns - centre) / focal, (centre - rows) / focal, -np.ones((SIZE, SIZE))], -1)
    rays = rays.reshape(-1, 3)
    best = np.full(len(rays), np.inf)
    found = np.full(len(rays), -1)
    weights = np.zeros((len(rays), 3))
    for number, (a, b, c) in enumerate(vertices[triangles].astype(np.float64)):
        matrix = np.stack([a, b, c], 1)
        if abs(np.linalg.det(matrix)) < 1e-12 or (cull and np.cross(b - a, c - a) @ a >= 0):
            continue
        # ray * depth = matrix @ (barycentrics), and the barycentrics sum to 1.
        solved = rays @ np.linalg.inv(matrix).T
        depth = 1 / solved.sum(1)
        inside = (solved >= 0).all(1) & (depth > 0) & (depth < best)
        best[inside], found[inside] = depth[inside], number
        weights[inside] = (solved * depth[:, None])[inside]
    return found, best, weights


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_agrees_with_a_ray_caster(cull, seed):
    vertices, triangles = soup(150, seed)
    camera = cameras()
    points = camera.project(vertices)
    fragments = raster.rasterize(points, triangles, SIZE, SIZE, cull)
    found, depth, weights = cast_rays(vertices[0].numpy(), triangles.numpy(), 2.0 * SIZE, cull)
    seen = fragments.dense(fragments.triangle, -1).numpy().ravel()
    assert 0.3 < (found >= 0).mean() < 0.99, "the scene tests little"
    # Rounding may turn a pixel centre that lies on an edge, or two equal depths, either way.
    assert (seen == found).mean() > 0.998
    same = (seen == found) & (found >= 0)
    _, ours = raster.barycentrics(fragments, points, triangles)
    ours = fragments.dense(ours).reshape(-1, 3).numpy()
    np.testing.assert_allclose(ours[same], weights[same], atol=2e-3)
    assert np.median(np.abs(ours[same] - weights[same])) < 1e-5
    nearness = fragments.dense(fragments.nearness).numpy().ravel()
    np.testing.assert_allclose(1 / nearness[same], depth[same], rtol=1e-4)


def test_interpolation_is_perspective_correct():
    """On a plane that runs away from the viewer, interpolated positions must lie on the pixels' rays."""
    corners = torch.tensor([[-8.0, -6, -15], [8, -6, -15], [8, 6, -90], [-8, 6, -90]])[None]
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    camera = cameras()
    points = camera.project(corners)
    fragments = raster.rasterize(points, triangles, SIZE, SIZE)
    position = raster.interpolate(*raster.barycentrics(fragments, points, triangles), corners)
    again = camera.project(position[None])[0]
    pixel = torch.stack([fragments.pixel % SIZE, fragments.pixel // SIZE], 1)
    assert len(pixel) > 500
    assert (again[:, :2] - pixel).abs().max() < 1e-2
    assert (again[:, 2] / fragments.nearness - 1).abs().max() < 1e-4


def test_sphere_shows_its_analytic_normals():
    vertices, triangles = sphere(rings=64)
    camera = cameras(distance=40)
    seen = camera.to_camera(vertices[None])
    points = camera.project(seen)
    fragments = raster.rasterize(points, triangles, SIZE, SIZE)
    corners, weights = raster.barycentrics(fragments, points, triangles)
    normals = torch.nn.functional.normalize(raster.interpolate(corners, weights, vertices[None]), dim=1)
    image = fragments.dense(normals)[0]

    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middle = (SIZE - 1) / 2
    rays = torch.stack([(columns - middle), (middle - rows), torch.full((SIZE, SIZE), -2.0 * SIZE)], -1)
    rays = torch.nn.functional.normalize(rays.double(), dim=-1)
    along = rays @ torch.tensor([0.0, 0.0, -40.0], dtype=torch.float64)
    inside = along**2 - 40**2 + 5**2
    hit = inside > 0
    truth = (rays * (along - inside.clamp(min=0).sqrt())[..., None] - torch.tensor([0.0, 0.0, -40.0])) / 5
    clear = inside > 0.6  # the mesh's silhouette lies a little within the sphere's
    covered = fragments.dense(torch.ones_like(fragments.triangle))[0] > 0
    assert covered[clear].all()
    assert not covered[~hit].any()
    angle = torch.rad2deg((image.double() * truth).sum(-1).clamp(-1, 1).acos())
    assert angle[clear].max() < 1.0
    # Axes: right, up, towards the viewer.
    assert image[SIZE // 2, SIZE // 2 + 15, 0] > 0.3
    assert image[SIZE // 2 - 15, SIZE // 2, 1] > 0.3
    assert image[SIZE // 2, SIZE // 2, 2] > 0.99


def test_every_pixel_of_a_mesh_is_covered_exactly_once():
    """Vertices on pixel centres, slivers and level edges: no hole, and no pixel in two triangles."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.linspace(8, 88, 21), np.linspace(8, 88, 21)), -1)
    grid[1:-1, 1:-1] += np.round(rng.uniform(-1, 1, (19, 19, 2)) * 2) / 2
    grid[5, :] = grid[5, 0, 1] * np.array([0, 1]) + grid[5] * np.array([1, 0])
    points = torch.from_numpy(np.concatenate([grid, np.full((21, 21, 1), 0.1)], -1).reshape(1, -1, 3)).float()
    index = torch.arange(21 * 21).reshape(21, 21)
    a, b, c, d = (x.flatten() for x in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    triangles = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    total = torch.zeros(SIZE, SIZE)
    for triangle in triangles:
        fragments = raster.rasterize(points, triangle[None], SIZE, SIZE, cull=False)
        total += fragments.dense(torch.ones_like(fragments.nearness))[0]
    assert (total[8:88, 8:88] == 1).all(), "holes or double cover"
    assert total.sum() == 80 * 80, "pixels outside"
    whole = raster.rasterize(points, triangles, SIZE, SIZE, cull=False)
    assert len(whole.pixel) == 80 * 80


def test_nearest_surface_wins_and_back_faces_are_culled():
    quad = torch.tensor([[-4.0, -4, 0], [4, -4, 0], [4, 4, 0], [-4, 4, 0]])
    vertices = torch.cat([quad + torch.tensor([0, 0, -30.0]), quad + torch.tensor([2.0, 0, -20.0])])[None]
    front = torch.tensor([[0, 1, 2], [0, 2, 3]])
    triangles = torch.cat([front, front + 4])
    points = cameras().project(vertices)
    fragments = raster.rasterize(points, triangles, SIZE, SIZE)
    image = fragments.dense(fragments.triangle, -1)[0]
    assert set(image[SIZE // 2, 50:60].tolist()) <= {2, 3}
    assert image[SIZE // 2, 25] in (0, 1)
    assert len(raster.rasterize(points, triangles.flip(1), SIZE, SIZE).pixel) == 0
    assert len(raster.rasterize(points, triangles.flip(1), SIZE, SIZE, cull=False).pixel) > 500


def test_triangles_behind_the_camera_or_not_finite_are_left_out():
    vertices = torch.tensor([[[-4.0, -4, -20], [4, -4, -20], [0, 4, -20], [0, 4, 5], [0, torch.nan, -20]]])
    triangles = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    points = cameras().project(vertices)
    fragments = raster.rasterize(points, triangles, SIZE, SIZE, cull=False)
    assert set(fragments.triangle.tolist()) == {0}


def test_images_of_a_batch_do_not_mix():
    vertices, triangles = soup(60, 3)
    moved = torch.cat([vertices, vertices + torch.tensor([3.0, -2.0, -4.0])])
    points = cameras(2).project(moved)
    both = raster.rasterize(points, triangles, SIZE, SIZE)
    dense = both.dense(both.triangle, -1)
    for number in range(2):
        alone = raster.rasterize(points[number : number + 1], triangles, SIZE, SIZE)
        assert torch.equal(dense[number], alone.dense(alone.triangle, -1)[0])
    assert not torch.equal(dense[0], dense[1])


def test_nearness_map_and_an_empty_image():
    vertices, triangles = soup(60, 4)
    points = cameras().project(vertices)
    fragments = raster.rasterize(points, triangles, SIZE, SIZE, cull=False)
    near = raster.nearness_map(points, triangles, SIZE, SIZE)
    assert torch.equal(near, fragments.dense(fragments.nearness))
    beside = raster.nearness_map(points + torch.tensor([1e4, 0.0, 0.0]), triangles, SIZE, SIZE)
    assert beside.shape == (1, SIZE, SIZE)
    assert not beside.any()


@pytest.mark.gpu
def test_cuda_gives_the_same_picture():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    vertices, triangles = soup(150, 1)
    points = cameras().project(vertices)
    here = raster.rasterize(points, triangles, SIZE, SIZE)
    there = raster.rasterize(points.cuda(), triangles.cuda(), SIZE, SIZE)
    same = here.dense(here.triangle, -1) == there.dense(there.triangle, -1).cpu()
    assert same.float().mean() > 0.999
