"""Samples, shards and multi-view sets: same seed, same sample, and labels that agree with each other."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from jobs.synth import command
from pipeline.errors import FacetError, OutputError
from pipeline.images.png import decode_png
from pipeline.normals.encoding import decode_normals
from pipeline.regions import ANSWER, Region
from pipeline.samples.schema import RENDERED_SCHEMA
from pipeline.storage.store import Store
from pipeline.synth import dataset, labels, rows, sample
from pipeline.synth import view_sets as multiview
from pipeline.synth.clothes import MASK_MOUTH
from pipeline.synth.loose import Border, end_photo
from pipeline.synth.shards import DatasetConfig

SIZE = 96


@pytest.fixture(scope="module")
def sampler(ict_facekit):
    return sample.Sampler(sample.SampleConfig(size=SIZE), 11, model=ict_facekit)


@pytest.fixture(scope="module")
def batch(sampler):
    return sampler.render(range(6))


def test_a_sample_does_not_depend_on_its_batch(sampler, batch):
    alone = sampler.render([4])
    assert alone.meta[0] == batch.meta[4]
    torch.testing.assert_close(alone.landmarks[0], batch.landmarks[4], atol=1e-2, rtol=0)
    different = (alone.image[0].int() - batch.image[4].int()).abs().amax(-1)
    assert (different > 3).float().mean() < 0.005
    cosine = (alone.normal[0] * batch.normal[4]).sum(-1)[batch.mask[4] & alone.mask[0]]
    assert (cosine > 0.999).float().mean() > 0.995


def test_another_seed_is_another_sample(sampler, ict_facekit):
    other = sample.Sampler(sample.SampleConfig(size=SIZE), 12, model=ict_facekit)
    first, second = sampler.parameters(0), other.parameters(0)
    assert not np.allclose(first.head.identity, second.head.identity)
    assert not np.allclose(first.head.identity, sampler.parameters(1).head.identity)


def test_streams_are_independent():
    draws = [sample.generator(1, 2, stream).random(4) for stream in ("head", "view", "look")]
    assert len({tuple(draw) for draw in draws}) == 3
    np.testing.assert_array_equal(sample.generator(1, 2, "head").random(4), draws[0])


def test_labels_are_consistent(batch):
    count = len(batch.meta)
    assert batch.image.shape == (count, SIZE, SIZE, 3)
    assert batch.image.dtype == torch.uint8
    answer = torch.isin(batch.regions, torch.tensor([int(r) for r in ANSWER], dtype=torch.uint8))
    assert torch.equal(answer, batch.mask)
    assert batch.mask.float().mean() > 0.2
    length = batch.normal.square().sum(-1).sqrt()
    torch.testing.assert_close(length[batch.mask], torch.ones(int(batch.mask.sum())), atol=1e-3, rtol=0)
    assert (batch.depth[batch.mask] > 20).all()
    assert (batch.normal[batch.mask][:, 2] > 0).float().mean() > 0.9, "normals point to the viewer"
    assert not torch.isnan(batch.normal).any()
    assert batch.image.float().std() > 10


def test_normals_agree_with_depth(sampler):
    """Normals from the differences of positions, where the surface is smooth."""
    drawn = [sampler.parameters(index) for index in range(6) if sampler.parameters(index).portrait]
    gbuffer = sampler.geometry(drawn[:2])
    position = gbuffer.dense(gbuffer.surface.position)
    across = position[:, 1:-1, 2:] - position[:, 1:-1, :-2]
    up = position[:, :-2, 1:-1] - position[:, 2:, 1:-1]
    measured = torch.nn.functional.normalize(torch.linalg.cross(across, up), dim=-1)
    regions = labels.geometry_regions(gbuffer)
    skin = (regions == int(Region.SKIN)).float()[:, None]
    inner = (-torch.nn.functional.max_pool2d(-skin, 5, 1, 2))[:, 0, 1:-1, 1:-1] > 0
    smooth = (across.square().sum(-1) < 1) & (up.square().sum(-1) < 1)
    cosine = (measured * gbuffer.dense(gbuffer.surface.normal)[:, 1:-1, 1:-1]).sum(-1)[inner & smooth]
    assert len(cosine) > 1000
    assert torch.rad2deg(cosine.clamp(-1, 1).acos()).median() < 3


def test_landmarks_are_where_the_window_was_cut(sampler, batch):
    """The crop's landmarks are the photo's, moved and scaled as the crop rule says."""
    for number in range(3):
        drawn = sampler.parameters(number)
        window = drawn.window
        photo = drawn.view.project(sampler.landmarks(drawn.head))
        crop = (photo - [window.left, window.top] + 0.5) * SIZE / window.size - 0.5
        np.testing.assert_allclose(batch.landmarks[number].numpy(), crop, atol=0.05)
        meta = batch.meta[number]
        seen = sampler.landmarks(drawn.head) @ np.transpose(meta["rotation"]) + meta["translation"]
        again = meta["centre"] + meta["focal"] * seen[:, :2] * [1, -1] / -seen[:, 2:]
        np.testing.assert_allclose(again, crop, atol=0.1)


def test_visible_dense_points_lie_on_the_surface(batch):
    size = batch.depth.shape[-1]
    for number in range(len(batch.meta)):
        points = batch.dense[number][batch.dense_visible[number]]
        x, y = points[:, 0].round().long(), points[:, 1].round().long()
        assert ((x >= 0) & (x < size) & (y >= 0) & (y < size)).all()
        seen = batch.depth[number, y, x]
        assert ((points[:, 2] - seen).abs()[seen > 0] < 1.0).float().mean() > 0.85
        hidden = batch.dense[number][~batch.dense_visible[number]]
        x, y = hidden[:, 0].round().long(), hidden[:, 1].round().long()
        inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        covered = batch.regions[number, y[inside], x[inside]]
        unlabelled = (covered == int(Region.HAIR)) | (covered == int(Region.OCCLUDER))
        behind = hidden[inside, 2] > batch.depth[number, y[inside], x[inside]] + 0.2
        assert (behind | unlabelled).all(), "a point in front of all surfaces is called hidden"
    assert batch.dense_visible.float().mean() > 0.3


def test_loose_windows_hold_whole_heads_in_any_pose(ict_facekit):
    loose = sample.Sampler(sample.SampleConfig(size=SIZE, window="loose"), 11, model=ict_facekit)
    drawn = [loose.parameters(index) for index in range(400)]
    angles = np.array([p.view.angles() for p in drawn])
    assert (np.abs(angles[:, 0]) > 80).mean() > 0.05
    assert (np.abs(angles[:, 2]) > 90).mean() > 0.03
    for p in drawn[:50]:
        points = p.window.to_crop(p.view.project(loose.landmarks(p.head)), SIZE) / SIZE
        assert 0.15 < points.min() < points.max() < 0.85
    ends = [p for p in drawn if p.border]
    assert 0.12 < len(ends) / len(drawn) < 0.28
    chosen = [ends[0], next(p for p in drawn if not p.border)]
    batch = loose.render_drawn(chosen)
    beyond = np.ones((SIZE, SIZE), bool)
    beyond[ends[0].border.slices(SIZE)] = False
    assert (batch.regions[0].numpy()[beyond] == int(Region.OCCLUDER)).all()
    assert not batch.mask[0].numpy()[beyond].any()
    column, row = batch.dense[0, :, :2].round().long().clamp(0, SIZE - 1).unbind(-1)
    assert not (batch.dense_visible[0] & torch.from_numpy(beyond)[row, column]).any()
    assert batch.dense_visible[1].float().mean() > 0.1
    # The same sample again, alone.
    again = loose.render_drawn(chosen[:1])
    assert (again.image[0].int() - batch.image[0].int()).abs().float().mean() < 0.5


@pytest.mark.parametrize("colour", [None, (127, 127, 127)])
def test_a_photo_ends_at_its_border(colour):
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)[..., None].repeat(3, 2)
    ended = end_photo(image, Border(0.25, 0.0, 1.0, 0.5, colour))
    assert np.array_equal(ended[:4, 2:], image[:4, 2:])
    if colour is None:
        assert (ended[7, 0] == image[3, 2]).all()
    else:
        assert (ended[4:] == 127).all()
        assert (ended[:, :2] == 127).all()


def test_the_silhouette_is_not_sure():
    regions = torch.full((1, 5, 5), int(Region.SKIN), dtype=torch.uint8)
    regions[0, 0, 0] = int(Region.BACKGROUND)
    assert (sample.without_silhouette(regions) == int(Region.IGNORE)).sum() == 3


def test_rows_hold_what_was_rendered(batch):
    made = rows.encode_batch(batch, "a-")
    assert [row["id"] for row in made] == [f"a-{index:08d}" for index in range(6)]
    row = made[1]
    meta = json.loads(row["meta"])
    assert {"yaw", "pitch", "roll", "skin_tone", "light"} <= set(meta)
    np.testing.assert_array_equal(decode_png(row["regions"]), batch.regions[1].numpy())
    np.testing.assert_array_equal(decode_png(row["mask"]) > 0, batch.mask[1].numpy())
    mask = batch.mask[1].numpy()
    np.testing.assert_allclose(
        decode_normals(decode_png(row["normal"]))[mask], batch.normal[1].numpy()[mask], atol=0.01
    )
    depth = decode_png(row["depth"]) * meta["depth_scale"] + meta["depth_offset"]
    np.testing.assert_allclose(depth[mask], batch.depth[1].numpy()[mask], atol=0.003)
    assert (decode_png(row["depth"]) == 0).sum() == (batch.depth[1] == 0).sum()
    assert np.abs(decode_png(row["image"]).astype(int) - batch.image[1].numpy()).mean() < 4


def small(count=5, seed=3, **options):
    config = {"count": count, "seed": seed, "shard_rows": 2, "sample": {"size": 64}, **options}
    return DatasetConfig.model_validate(config)


def assert_same_values(first, second):
    """Nested values are equal but for floating-point noise."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same_values(first[name], second[name])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same_values(a, b)
    else:
        assert first == (pytest.approx(second, rel=1e-4, abs=1e-4) if isinstance(first, float) else second)


def assert_same_samples(first, second):
    """Rows of two shards are equal but for floating-point noise."""
    for a, b in zip(pq.read_table(first).to_pylist(), pq.read_table(second).to_pylist(), strict=True):
        assert a["id"] == b["id"]
        assert_same_values(json.loads(a["meta"]), json.loads(b["meta"]))
        np.testing.assert_allclose(a["landmarks"], b["landmarks"], atol=0.02)
        for column in ("image", "normal", "regions"):
            difference = np.abs(decode_png(a[column]).astype(int) - decode_png(b[column]))
            assert (difference > 3).mean() < 0.01, column


LOCAL = dataset.ExecutionConfig(engine="local", workers=1, device="cpu", batch_size=2)


def test_a_data_set_resumes_and_is_the_same(tmp_path, ict_facekit):
    whole, broken = str(tmp_path / "whole"), str(tmp_path / "broken")
    names = dataset.write_dataset(whole, small(), LOCAL, str(ict_facekit))
    assert names == [
        "faces-00000000-00000002.parquet",
        "faces-00000002-00000004.parquet",
        "faces-00000004-00000005.parquet",
    ]
    table = pq.read_table(tmp_path / "whole" / names[0])
    assert table.schema.equals(RENDERED_SCHEMA)

    dataset.write_dataset(broken, small(), LOCAL, str(ict_facekit))
    kept = (tmp_path / "broken" / names[0]).stat().st_mtime_ns
    (tmp_path / "broken" / names[1]).unlink()
    counts = []
    other = LOCAL.model_copy(update={"batch_size": 1})
    dataset.write_dataset(broken, small(), other, str(ict_facekit), counts.append)
    assert counts == [3, 2]
    assert (tmp_path / "broken" / names[0]).stat().st_mtime_ns == kept
    for name in names:
        assert_same_samples(tmp_path / "whole" / name, tmp_path / "broken" / name)
    assert sorted(p.name for p in (tmp_path / "broken").iterdir()) == [*names, "synth.yaml"]


def test_a_folder_with_other_data_is_refused(tmp_path, ict_facekit):
    dataset.write_dataset(str(tmp_path / "a"), small(2), LOCAL, str(ict_facekit))
    with pytest.raises(OutputError, match="other settings"):
        dataset.write_dataset(str(tmp_path / "a"), small(2, seed=4), LOCAL, str(ict_facekit))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photos.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match="other data"):
        dataset.write_dataset(str(tmp_path / "b"), small(2), LOCAL, str(ict_facekit))


@pytest.mark.slow
def test_processes_render_the_same_data_set(tmp_path, ict_facekit):
    one = dataset.write_dataset(str(tmp_path / "one"), small(4), LOCAL, str(ict_facekit))
    two = LOCAL.model_copy(update={"workers": 2})
    dataset.write_dataset(str(tmp_path / "two"), small(4), two, str(ict_facekit))
    for name in one:
        assert_same_samples(tmp_path / "one" / name, tmp_path / "two" / name)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, when it copies its settings
def test_ray_renders_the_same_data_set(tmp_path, ict_facekit, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else a busy machine starves the workers
    one = dataset.write_dataset(str(tmp_path / "one"), small(4), LOCAL, str(ict_facekit))
    on_ray = LOCAL.model_copy(update={"engine": "ray", "workers": None})
    counts = []
    dataset.write_dataset(str(tmp_path / "two"), small(4), on_ray, str(ict_facekit), counts.append)
    assert counts == [2, 2]
    with pytest.raises(FacetError) as error:
        dataset.write_dataset(str(tmp_path / "three"), small(4), on_ray, str(tmp_path))
    assert error.value.code == "asset_missing"
    for name in one:
        assert_same_samples(tmp_path / "one" / name, tmp_path / "two" / name)


def test_views_of_a_set_share_a_head(sampler):
    config = multiview.MultiviewConfig(views=3, changing=0.0)
    drawn = multiview.draw_set(sampler, 5, config)
    assert len({p.head.expression.tobytes() for p in drawn}) == 1
    assert len({p.view.rotation.tobytes() for p in drawn}) == 3
    assert len({p.props for p in drawn}) == 1
    assert len({p.look.faults for p in drawn}) == 3
    assert len({p.look.outfit.colour.tobytes() for p in drawn}) == 1
    changing = multiview.draw_set(sampler, 5, multiview.MultiviewConfig(views=3, changing=1.0))
    assert len({p.head.expression.tobytes() for p in changing}) == 3
    assert len({p.head.identity.tobytes() for p in changing}) == 1
    assert len({id(p.look.light) for p in drawn}) == 1
    assert len({id(p.look.light) for p in changing}) == 3


class Masked:
    """A sampler whose heads all wear a face mask."""

    def __init__(self, sampler):
        self._sampler = sampler

    def __getattr__(self, name):
        return getattr(self._sampler, name)

    def parameters(self, index):
        drawn = self._sampler.parameters(index)
        return replace(drawn, look=replace(drawn.look, outfit=replace(drawn.look.outfit, mask=1.0)))


def test_face_masks_stay_on_mouths_that_are_closed_in_all_views(sampler):
    masked = Masked(sampler)
    jaw = sampler.model.expression_index("jawOpen")
    seen = set()
    for number in range(12):
        drawn = multiview.draw_set(masked, number, multiview.MultiviewConfig(views=2, changing=1.0))
        opened = max(p.head.expression[jaw] for p in drawn) > MASK_MOUTH
        assert {p.look.outfit.mask for p in drawn} == {0.0 if opened else 1.0}
        seen.add(opened)
    assert seen == {True, False}


def test_multiview_vertices_project_to_the_landmarks(sampler, tmp_path):
    store = Store(str(tmp_path))
    config = multiview.MultiviewConfig(views=2, changing=1.0)
    (name,) = multiview.write_sets(store, sampler, [0], config)
    table = pq.read_table(tmp_path / name)
    assert table.schema.equals(multiview.MULTIVIEW_SCHEMA)
    for row in table.to_pylist():
        vertices = np.frombuffer(row["vertices"], "<f4").reshape(-1, 3)
        seen = vertices @ np.reshape(row["rotation"], (3, 3)).T + row["translation"]
        pixels = row["centre"] + row["focal"] * seen[:, :2] * [1, -1] / -seen[:, 2:]
        landmarks = np.reshape(row["landmarks"], (68, 2))
        np.testing.assert_allclose(pixels[sampler.model.landmarks.numpy()], landmarks, atol=0.15)
    before = (tmp_path / name).stat().st_mtime_ns
    multiview.write_sets(store, sampler, [0], config)
    assert (tmp_path / name).stat().st_mtime_ns == before


def test_shapes_leave_the_head_model_by_so_many_millimetres(sampler):
    own = multiview.own_shape(sampler.model, np.random.default_rng(0), 1.5)
    off = (own.neutral - sampler.model.neutral)[: multiview.FACE_VERTICES].norm(dim=1)
    assert float(off.square().mean().sqrt()) == pytest.approx(0.15, rel=1e-4)
    assert torch.equal(own.identity, sampler.model.identity)


def test_command_renders_and_draws_a_sheet(tmp_path, ict_facekit):
    output, sheet = tmp_path / "faces", tmp_path / "sheet.png"
    arguments = [str(output), "--count", "2", "--seed", "5", "--size", "64", "--engine", "local"]
    arguments += ["--workers", "1", "--device", "cpu", "--model", str(ict_facekit), "--sheet", str(sheet)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "1 files" in result.output
    assert decode_png(sheet.read_bytes()).shape == (320, 320, 3)
    assert pq.read_table(output / "faces-00000000-00000002.parquet").num_rows == 2
    more = [str(tmp_path / "sets"), "--count", "1", "--multiview", "--size", "64", "--device", "cpu"]
    more += ["--model", str(ict_facekit), "--set", "multiview.views=2"]
    result = CliRunner().invoke(command, more, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "sets").num_rows == 2


def test_only_edges_are_softened():
    depth = torch.zeros(1, 7, 8)
    depth[0, :, 4:] = 60.0
    image = (depth > 0).float()[..., None].repeat(1, 1, 1, 3)
    image[0, 3, 6] = 0.5
    soft = sample.soften_edges(image, depth)[0]
    torch.testing.assert_close(soft[2, 2:6, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    assert soft[3, 6, 0] == 0.5, "a change within a surface is detail"
    slope = sample.soften_edges(image, torch.full_like(depth, 50.0))
    assert torch.equal(slope, image)


def test_geometry_is_exact_whatever_training_allows():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with sample.full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
