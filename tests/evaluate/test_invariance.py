"""Light and mirror invariance: figures of answers that are known, and the renders that they are taken on."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from networks import Tilted
from spheres import sphere_row, write_rows

from jobs import evaluate as evaluate_job
from pipeline.errors import DataError
from pipeline.evaluate import cases, invariance
from pipeline.evaluate.groups import disparities
from pipeline.evaluate.run import evaluate
from pipeline.samples.sample import decode_row
from pipeline.synth.sample import SampleConfig, Sampler

FRONT = np.array([0.0, 0.0, 1.0])


def plane(degrees: float) -> np.ndarray:
    """Normals (4, 4, 3), tilted to the right."""
    angle = math.radians(degrees)
    return np.broadcast_to([math.sin(angle), 0.0, math.cos(angle)], (4, 4, 3)).copy()


def test_deviations_are_from_the_mean_direction():
    mask = np.ones((4, 4), bool)
    assert invariance.deviations(np.stack([plane(7)] * 3), mask) == pytest.approx(0, abs=1e-6)
    found = invariance.deviations(np.stack([plane(-10), plane(10)]), mask)
    assert found == pytest.approx([10, 10])
    # Only the mask counts.
    second = plane(10)
    second[:, 2:] = plane(80)[:, 2:]
    mask[:, 2:] = False
    assert invariance.deviations(np.stack([plane(-10), second]), mask) == pytest.approx([10, 10])


def test_mirrored_normals_are_those_of_the_mirrored_surface():
    normals = np.stack([plane(5), plane(30)])
    normals[:, :, 0] = FRONT
    found = invariance.mirrored(normals)
    assert found[0, 0, 3] == pytest.approx(FRONT)
    assert found[1, 2, 0] == pytest.approx(plane(-30)[0, 0])
    assert invariance.mirrored(found) == pytest.approx(normals)


def test_mirror_figures_of_a_network_whose_answer_is_known():
    samples = [decode_row(sphere_row(i, 64), None) for i in range(3)]
    found = invariance.mirror_invariance(Tilted(10), samples, "cpu")
    # 10 degrees to the right, and for the mirrored photo 10 to the left; their mean faces the viewer.
    assert found["images"] == 3
    assert found["difference"] == pytest.approx(20, abs=1e-3)
    facing = invariance.mirror_invariance(Tilted(0), samples, "cpu")
    assert facing["difference"] == pytest.approx(0, abs=1e-3)
    assert facing["gain"] == pytest.approx(0, abs=1e-6)
    assert found["error_mirror"] == pytest.approx(facing["error"], abs=1e-3)
    assert found["error"] > facing["error"]
    assert found["gain"] == pytest.approx(found["error"] - found["error_mirror"])


def test_disparities_compare_groups_of_a_kind():
    means = {"all": 1.0, "yaw 0-15": 10.0, "yaw 60+": 12.0, "skin dark": 9.0, "skin very light": 9.0}
    assert disparities(means) == pytest.approx({"yaw": 1.2, "skin": 1.0})
    assert disparities({}) == {}


@pytest.fixture(scope="module")
def sampler(ict_facekit) -> Sampler:
    return Sampler(SampleConfig(size=64), invariance.LIGHT_SEED, model=ict_facekit)


@pytest.mark.slow
def test_relit_heads_differ_in_their_light_alone(sampler):
    samples = invariance.relit(sampler, 1, 3)
    first = samples[0]
    for other in samples[1:]:
        assert np.abs(first.image.astype(int) - other.image).mean() > 5
        assert (first.normals == other.normals).all()
        assert (first.regions == other.regions).all()
        assert (first.landmarks == other.landmarks).all()


@pytest.mark.slow
def test_light_figures_of_networks_whose_answers_are_known(sampler):
    found = invariance.light_invariance(Tilted(10), sampler, heads=1, lights=3)
    assert found["spread"] == pytest.approx(0, abs=1e-3)
    assert found["worst_error"] == pytest.approx(found["best_error"], abs=1e-3)
    assert [len(head["lights"]) for head in found["per_head"]] == [3]
    # An answer that turns with the brightness of the picture moves as far as the brightness does.
    reads = 60.0
    moved = invariance.light_invariance(Tilted(0, reads), sampler, heads=1, lights=3)
    (head,) = moved["per_head"]
    images = [sample.image for sample in invariance.relit(sampler, head["head"], 3)]
    angles = reads * np.array([image.mean() for image in images]) / 255
    # The mean of three directions within some degrees is the direction of the mean angle.
    assert head["spread"] == pytest.approx(np.abs(angles - angles.mean()).mean(), rel=0.05)
    assert moved["spread"] > 0.5
    assert moved["worst_light"] >= moved["spread"]


@pytest.mark.slow
def test_command_stores_light_and_mirror(sampler, random_weights, tmp_path, monkeypatch):
    # The one that is loaded already: loading the head model takes longest of all.
    monkeypatch.setattr("pipeline.synth.sample.Sampler", lambda config, *_: sampler)
    monkeypatch.setattr("pipeline.evaluate.invariance.LIGHTS", 2)
    data = write_rows(tmp_path / "rows.parquet", [sphere_row(i, 64) for i in range(3)])
    out = tmp_path / "score"
    options = ["--size", "64", "--out", str(out), "--mirror", "--light", "1", "--show", "sphere-2"]
    result = CliRunner().invoke(evaluate_job.command, [str(random_weights), data, *options])
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "evaluation.json").read_text())
    assert summary["light"]["heads"] == 1
    assert summary["mirror"]["images"] == 3
    assert f"{summary['light']['spread']:.2f} degrees from their mean answer" in result.output
    assert f"{summary['mirror']['difference']:.2f} degrees between the answers" in result.output
    assert (out / "evaluation.md").read_text() in result.output
    assert (out / "shown.png").exists()


def test_shown_images_are_the_chosen_ones(random_weights, tmp_path):
    from pipeline.images.png import decode_png

    rows = [sphere_row(i, 64) for i in range(4)]
    data = write_rows(tmp_path / "rows.parquet", rows)
    out = tmp_path / "score"
    summary, _ = evaluate(str(random_weights), [data], out, "cpu", 64, show=["sphere-3", "sphere-1"])
    assert "mirror" not in summary
    assert "light" not in summary
    picture = decode_png((out / "shown.png").read_bytes())
    assert picture.shape == (2 * 128, 4 * 128, 3)
    for place, index in enumerate((3, 1)):
        photo = decode_row(rows[index], 128).image
        tile = picture[place * 128 : (place + 1) * 128, :128]
        # Below the caption.
        assert np.abs(tile[60:].astype(int) - photo[60:]).mean() < 5
    with pytest.raises(DataError, match="no image 'sphere-9'"):
        evaluate(str(random_weights), [data], None, "cpu", 64, show=["sphere-9"])


def test_show_needs_a_folder(random_weights):
    result = CliRunner().invoke(evaluate_job.command, [str(random_weights), "data", "--show", "a"])
    assert "--show draws into the folder" in str(result.exception)


def test_face_masks_are_where_hulls_are_missing():
    sample = decode_row(sphere_row(0, 64), None)
    assert cases.landmark_mask(sample) is None
    found = invariance.mirror_invariance(Tilted(0), [sample], "cpu")
    z = np.clip(sample.normals[..., 2][cases.face_mask(sample)] / 127, -1, 1)
    assert found["error"] == pytest.approx(np.degrees(np.arccos(z)).mean(), abs=0.2)
