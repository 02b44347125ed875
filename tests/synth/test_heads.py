"""The head model, the distributions of heads and photos, and the labels that follow from geometry."""

import gzip

import numpy as np
import pytest
import torch

from pipeline.errors import AssetsError
from pipeline.faces.crop import CROP_SCALE, crop_window
from pipeline.geometry import head_model as ict
from pipeline.geometry.cameras import Cameras
from pipeline.geometry.head_regions import DENSE_POINTS, dense_vertices
from pipeline.regions import Region
from pipeline.synth import labels
from pipeline.synth.gbuffer import render_gbuffer
from pipeline.synth.head import KINDS, draw_expression, draw_head
from pipeline.synth.view import FACE_CENTRE, CameraPose, draw_view, draw_window, rotation_matrix


@pytest.fixture(scope="module")
def model(ict_facekit):
    return ict.load_face_model(ict_facekit)


def vertices_of(model, **expression):
    weights = torch.zeros(1, len(model.expression_names))
    for name, value in expression.items():
        weights[0, model.expression_index(name)] = value
    return ict.head_vertices(model, torch.zeros(1, 100), weights)


def front_view(model, vertices, size=128, rotation=None):
    """Geometry buffer of heads seen from 60 cm."""
    count = len(vertices)
    vertices, eyes = ict.rotate_eyes(model, vertices, torch.zeros(count, 2))
    cameras = Cameras(
        rotation=torch.eye(3).expand(count, 3, 3) if rotation is None else rotation,
        translation=torch.tensor([0.0, 0.0, -60.0]).expand(count, 3),
        focal=torch.full((count,), 2.0 * size),
        centre=torch.full((count, 2), (size - 1) / 2),
    )
    normals = ict.head_normals(model, vertices, eyes)
    return render_gbuffer(model, vertices, normals, mouth_open=torch.zeros(count), cameras=cameras, size=size)


def test_expression_equals_the_upstream_mesh(model, ict_facekit):
    """Vertices of one expression against the model's own OBJ file."""
    samples = {path.name.split(".")[0]: path for path in (ict_facekit / "upstream_sample").glob("*.obj.gz")}
    names = [name for name in samples if name in model.expression_names]
    if not names:
        pytest.skip("no upstream expression is at hand")
    for name in names:
        lines = gzip.decompress(samples[name].read_bytes()).decode().splitlines()
        upstream = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], float)
        ours = vertices_of(model, **{name: 1.0})[0].numpy()
        np.testing.assert_allclose(ours, upstream[: len(ours)], atol=1e-3)


def test_identity_and_expression_add_up(model):
    torch.manual_seed(0)
    identity, expression = torch.randn(2, 100), torch.rand(2, 53)
    heads = ict.head_vertices(model, identity, expression)
    by_hand = model.neutral + (identity[1] @ model.identity + expression[1] @ model.expression).reshape(-1, 3)
    torch.testing.assert_close(heads[1], by_hand, atol=1e-4, rtol=0)
    assert not torch.allclose(heads[0], heads[1])


def test_vertex_normals_point_outwards_and_match_the_faces(model):
    vertices = vertices_of(model)
    normals = ict.head_normals(model, vertices)[0]
    used = torch.unique(model.faces)
    torch.testing.assert_close(normals[used].norm(dim=1), torch.ones(len(used)), atol=1e-4, rtol=0)
    tip = model.landmarks[30]
    assert normals[tip, 2] > 0.8
    # Against plain cross products of the triangles, accumulated one by one.
    a, b, c = (vertices[0, model.triangles[:, k]] for k in range(3))
    crosses = torch.linalg.cross(b - a, c - a)
    plain = torch.zeros_like(vertices[0])
    for k in range(3):
        plain.index_add_(0, model.triangles[:, k], crosses)
    plain = torch.nn.functional.normalize(plain, dim=1)
    agreement = (plain * normals)[: ict.NARROW_FACE_VERTICES].sum(1)
    assert agreement.median() > 0.999
    assert (agreement > 0.95).float().mean() > 0.99


def test_gaze_turns_the_eyes_about_their_centres(model):
    vertices = vertices_of(model)
    turned, centres = ict.rotate_eyes(model, vertices, torch.tensor([[0.3, 0.2]]))
    left, right = model.eyes
    still = torch.ones(turned.shape[1], dtype=torch.bool)
    still[torch.cat([left, right])] = False
    assert torch.equal(turned[:, still], vertices[:, still])
    for side, ids in enumerate((left, right)):
        before, after = vertices[0, ids] - centres[0, side], turned[0, ids] - centres[0, side]
        torch.testing.assert_close(before.norm(dim=1), after.norm(dim=1), atol=1e-4, rtol=0)
        pupil = before[:, 2].argmax()
        assert after[pupil, 0] > before[pupil, 0] + 0.3, "positive yaw looks to the subject's left"
        assert after[pupil, 1] > before[pupil, 1] + 0.2, "positive pitch looks up"


def test_occlusion_is_dark_in_hollows_and_bright_on_the_forehead(model):
    closed, opened = model.occlusion
    forehead = (model.neutral - torch.tensor([0.0, 8.0, 11.0])).norm(dim=1).argmin()
    assert closed[forehead] > 0.9
    tongue = model.material_names.index("M_GumsTongue")
    inside = torch.unique(model.triangles[model.material == tongue])
    assert closed[inside].mean() < 0.1
    assert opened[inside].mean() > closed[inside].mean()


def test_the_occlusion_that_is_shipped_is_that_of_the_model(model, ict_facekit, tmp_path):
    with np.load(ict_facekit / "ict_facekit.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["neutral"] = arrays["neutral"] + np.float32([0, 1e-4, 0])  # another model: it is baked
    np.savez(tmp_path / "other.npz", **arrays)
    baked = ict.load_face_model(tmp_path / "other.npz").occlusion
    assert (baked - model.occlusion).abs().mean() < 1e-3


def test_a_missing_or_foreign_model_is_an_error(tmp_path):
    with pytest.raises(AssetsError):
        ict.load_face_model(tmp_path / "nothing.npz")
    foreign = tmp_path / "ict_facekit.npz"
    np.savez(foreign, neutral=np.zeros(3))
    with pytest.raises(AssetsError, match="not the ICT-FaceKit model"):
        ict.load_face_model(foreign)


def test_regions_of_a_frontal_face(model):
    gbuffer = front_view(model, vertices_of(model, jawOpen=1.0))
    regions = labels.geometry_regions(gbuffer)[0]
    points, visible = labels.project_vertices(gbuffer, model.landmarks)
    x, y = points[0, :, 0].round().long(), points[0, :, 1].round().long()
    assert regions[y[27], x[27]] == Region.SKIN
    assert visible[0, 27:31].all()
    assert regions[(y[62] + y[66]) // 2, (x[62] + x[66]) // 2] == Region.MOUTH
    eye = (regions == int(Region.EYE)).nonzero().float()
    assert len(eye) > 50
    assert y[19] < eye[:, 0].mean() < y[30]
    assert regions[0, 0] == Region.BACKGROUND
    assert torch.equal(regions == int(Region.BACKGROUND), gbuffer.depth[0] == 0)
    assert (regions == int(Region.NECK)).any()


def test_dense_points_are_spread_and_hidden_ones_known(model):
    ids = dense_vertices(model)
    assert len(ids) == len(set(ids.tolist())) == DENSE_POINTS
    points = model.neutral[ids]
    nearest = (torch.cdist(points, points) + 1e3 * torch.eye(len(ids))).amin(1)
    assert nearest.min() > 0.35, "two points nearly coincide"
    assert nearest.max() < 1.5
    half_turn = torch.from_numpy(np.stack([np.eye(3), rotation_matrix(np.pi / 2, 0, 0)])).float()
    gbuffer = front_view(model, vertices_of(model).expand(2, -1, -1), rotation=half_turn)
    _, visible = labels.project_vertices(gbuffer, ids)
    assert visible[0].float().mean() > 0.95
    # The face that turned to the right of the image shows its right cheek (x < 0).
    assert visible[1][points[:, 0] < -3].float().mean() > 0.9
    assert visible[1][points[:, 0] > 4].float().mean() < 0.1


def test_rotations_and_angles():
    forward = rotation_matrix(0.5, 0, 0) @ [0, 0, 1]
    assert forward[0] > 0.4, "positive yaw turns the face to the right of the image"
    assert (rotation_matrix(0, 0.5, 0) @ [0, 0, 1])[1] > 0.4, "positive pitch raises it"
    assert (rotation_matrix(0, 0, 0.5) @ [1, 0, 0])[1] > 0.4, "positive roll is counter-clockwise"
    for yaw, pitch, roll in [(0.3, -0.2, 0.4), (-1.2, 0.3, -0.1), (0, 0, 0)]:
        rotation = rotation_matrix(0, 0, 0) @ rotation_matrix(yaw, 0, 0)
        rotation = rotation_matrix(yaw, 0, 0) @ rotation_matrix(0, pitch, 0) @ rotation_matrix(0, 0, roll)
        view = CameraPose(100, 100, 100.0, rotation, np.zeros(3))
        np.testing.assert_allclose(view.angles(), np.degrees([yaw, pitch, roll]), atol=1e-9)


def test_views_are_as_documented():
    views = [draw_view(np.random.default_rng(seed)) for seed in range(600)]
    distances = np.array([view.distance for view in views])
    assert 34.9 < distances.min() < 45
    assert 250 < distances.max() < 300.1
    yaws = np.array([view.angles()[0] for view in views])
    assert 0.18 < (np.abs(yaws) > 45).mean() < 0.45
    assert abs(yaws.mean()) < 5
    pitches = np.array([view.angles()[1] for view in views])
    assert 8 < pitches.std() < 20
    assert abs(pitches.mean()) < 4
    for view in views[:50]:
        x, y = view.project(FACE_CENTRE[None])[0]
        assert 0.1 * view.width < x < 0.9 * view.width
        assert 0.1 * view.height < y < 0.9 * view.height
        np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(view.rotation) > 0
    portraits = [draw_view(np.random.default_rng(seed), portrait=True) for seed in range(200)]
    assert np.std([view.angles()[0] for view in portraits]) < np.std(yaws) / 1.5


def test_windows_are_the_products_rule_with_jitter(model):
    """Without jitter the window is that of the crop rule; with it, it stays near."""

    class Still:
        def normal(self, mean, deviation, size=None):
            return np.zeros(size or ())

    landmarks = model.neutral[model.landmarks].double().numpy()
    ratios = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        view = draw_view(rng)
        projected = view.project(landmarks)
        exact = crop_window(projected)
        assert draw_window(Still(), projected) == exact
        ratios.append(draw_window(rng, projected).size / exact.size)
    assert 0.95 < np.mean(ratios) < 1.1
    assert 0.07 < np.std(ratios) < 0.16
    assert CROP_SCALE == 1.2


def test_heads_are_as_documented(model):
    heads = [draw_head(np.random.default_rng(seed), model.expression_names) for seed in range(500)]
    deviation = np.array([head.identity.std() for head in heads])
    assert 0.5 < deviation.min() < 0.8
    assert 1.3 < deviation.max() < 1.75
    weights = np.array([head.expression for head in heads])
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert {head.kind for head in heads} == set(KINDS)
    blink = weights[:, model.expression_index("eyeBlink_L")]
    assert 0.08 < (blink > 0.85).mean() < 0.2, "share of closed eyes"
    assert 0.1 < (weights[:, model.expression_index("jawOpen")] > 0.2).mean() < 0.5
    same = draw_head(np.random.default_rng(3), model.expression_names)
    np.testing.assert_array_equal(same.expression, heads[3].expression)


def test_lids_follow_the_gaze(model):
    for seed in range(50):
        weights, _, eyes, gaze = draw_expression(np.random.default_rng(seed), model.expression_names)
        if eyes == "open" and gaze[1] > 0.1:
            assert weights[model.expression_index("eyeLookUp_L")] > 0
            assert weights[model.expression_index("eyeLookDown_L")] == 0
        if eyes == "open" and gaze[0] > 0.15:  # to the subject's left: outwards for the left eye
            assert weights[model.expression_index("eyeLookOut_L")] > 0
            assert weights[model.expression_index("eyeLookIn_R")] > 0
