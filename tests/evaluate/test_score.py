import json
import math

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from lee_perry_smith import convert
from networks import Tilted
from spheres import sphere_normals, sphere_row, write_rows

from jobs import evaluate as evaluate_job
from pipeline.errors import DataError, WeightsError
from pipeline.evaluate import cases, groups, metrics, score
from pipeline.evaluate.run import draw_ranked, evaluate
from pipeline.images.png import encode_png
from pipeline.normals.architectures import build_network
from pipeline.normals.checkpoints import load_network
from pipeline.normals.encoding import encode_normals
from pipeline.samples.rows import BadRows
from pipeline.samples.sample import decode_row
from pipeline.weights import save_weights

FRONT = (0.0, 0.0, 1.0)


def tilted(degrees: float) -> np.ndarray:
    return np.array([math.sin(math.radians(degrees)), 0, math.cos(math.radians(degrees))])


def plane(*columns: float) -> np.ndarray:
    """Normals (4, N, 3), column i tilted by columns[i] degrees."""
    return np.broadcast_to(np.stack([tilted(angle) for angle in columns]), (4, len(columns), 3)).copy()


ALL = np.ones((4, 4), bool)


def test_angles_by_hand():
    vectors = np.stack([tilted(angle) for angle in (0, 1e-4, 30, 90, 180)])
    found = metrics.angular_error(vectors, np.broadcast_to(FRONT, vectors.shape))
    assert found == pytest.approx([0, 1e-4, 30, 90, 180], rel=1e-6)


def test_metrics_of_a_hand_made_map():
    found = metrics.image_metrics(plane(0, 12, 21, 40), plane(0, 0, 0, 0), ALL)
    errors = np.array([0, 12, 21, 40])
    assert found["mean"] == pytest.approx(errors.mean())
    assert found["std"] == pytest.approx(errors.std())
    assert found["median"] == pytest.approx(16.5)
    shares = [found[f"within_{limit:g}"] for limit in metrics.THRESHOLDS]
    assert shares == [0.25, 0.5, 0.75, 0.75, 0.75]


def test_only_the_mask_counts():
    mask = ALL.copy()
    mask[:, 2:] = False
    found = metrics.image_metrics(plane(10, 10, 90, 90), plane(0, 0, 0, 0), mask)
    assert found["mean"] == pytest.approx(10)
    assert found["gradient"] == pytest.approx(0, abs=1e-6)


def test_gradient_error_is_that_of_the_differences():
    # Columns 0 and 1 are right, 2 and 3 off by the same tilt: one pair of 12 in x and none of 12 in y differ.
    step = np.linalg.norm(tilted(20) - tilted(0))
    found = metrics.gradient_error(plane(0, 0, 20, 20), plane(0, 0, 0, 0), ALL)
    assert found == pytest.approx(math.degrees(step) * 4 / 24)


def test_gradient_error_sees_lost_detail_that_the_mean_does_not():
    rough = plane(*[0, 20] * 8)
    mask = np.ones((4, 16), bool)
    smooth = metrics.image_metrics(plane(*[10] * 16), rough, mask)
    shifted = metrics.image_metrics(plane(*[10, 30] * 8), rough, mask)
    assert smooth["mean"] == pytest.approx(shifted["mean"])
    assert smooth["gradient"] > 5 * shifted["gradient"]


def test_gradient_error_without_neighbours_is_not_a_number():
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    found = metrics.image_metrics(plane(5, 5, 5, 5), plane(0, 0, 0, 0), mask)
    assert math.isnan(found["gradient"])
    assert found["mean"] == pytest.approx(5)


def test_smoothed_error_sees_the_shape_and_not_the_detail():
    detail = plane(*[-10, 10] * 128)[[0] * 256]
    mask = np.ones((256, 256), bool)
    found = metrics.image_metrics(detail, plane(*[0] * 256)[[0] * 256], mask)
    assert found["mean"] == pytest.approx(10, abs=0.1)
    assert found["smooth"] < 0.5  # pixels along the border have more of one kind
    shape = metrics.image_metrics(plane(*[10] * 256)[[0] * 256], plane(*[0] * 256)[[0] * 256], mask)
    assert shape["smooth"] == pytest.approx(10, abs=0.1)


def test_smoothing_takes_nothing_from_outside_of_the_mask():
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True
    half, whole = plane(*[5] * 32, *[80] * 32)[[0] * 64], plane(*[5] * 64)[[0] * 64]
    assert metrics.image_metrics(half, whole, mask)["smooth"] == pytest.approx(0, abs=1e-3)


def test_slopes_below_one_are_overstated_ones():
    truth = sphere_normals(32).astype(np.float64)
    mask = truth[..., 2] > 0.5
    steeper = truth * [1, 1.25, 1]
    found = metrics.image_metrics(steeper, truth, mask)
    assert found["slope_x"] == pytest.approx(1)
    assert found["slope_y"] == pytest.approx(0.8)
    flat = metrics.image_metrics(plane(0, 0, 0, 0), plane(0, 5, 0, 5), ALL)
    assert math.isnan(flat["slope_x"])


@pytest.mark.parametrize("degrees", [0.0, 7.0, -25.0])
def test_best_rotation_undoes_a_tilt_of_the_whole_face(degrees):
    truth = sphere_normals(32).astype(np.float64)
    mask = truth.any(-1)
    radians = math.radians(degrees)
    pitch = np.array(
        [
            [1, 0, 0],
            [0, math.cos(radians), -math.sin(radians)],
            [0, math.sin(radians), math.cos(radians)],
        ]
    )
    found = metrics.image_metrics(truth @ pitch.T, truth, mask)
    assert found["rotation"] == pytest.approx(abs(degrees), abs=1e-5)
    assert found["mean_aligned"] == pytest.approx(0, abs=1e-5)
    # No pixel turns by more than the rotation, those on its axis do not turn at all.
    assert found["mean"] <= abs(degrees) + 1e-6


def test_best_rotation_is_no_mirror():
    truth = sphere_normals(32)[sphere_normals(32).any(-1)]
    rotation = metrics.best_rotation(truth * (-1, 1, 1), truth)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_images_have_equal_say():
    rows = [{"mean": 10.0, "gradient": float("nan")}, {"mean": 20.0, "gradient": 3.0}]
    assert metrics.average(rows) == {"mean": 15.0, "gradient": 3.0}
    assert math.isnan(metrics.average(rows[:1])["gradient"])
    assert metrics.average([]) == {}


def test_groups_of_what_rows_say():
    meta = {"yaw": -31.5, "skin_tone": 9, "light": ["side", "coloured"], "seed": 7}
    assert groups.groups_of(meta) == ["yaw 30-45", "skin dark", "light side", "light coloured"]
    assert groups.groups_of({"yaw": 88, "skin_tone": "type V", "light": "sun"}) == [
        "yaw 60+",
        "skin type V",
        "light sun",
    ]
    assert groups.groups_of({}) == []
    names = ["light sun", "skin dark", "yaw 60+", "skin very light", "yaw 0-15", "yaw 15-30"]
    assert sorted(names, key=groups.order_of) == [
        "yaw 0-15",
        "yaw 15-30",
        "yaw 60+",
        "skin very light",
        "skin dark",
        "light sun",
    ]


def test_summary_of_a_network_whose_answer_is_known():
    landmarks = np.full((68, 2), 32.0)
    landmarks[:4] = [(24, 24), (40, 24), (40, 40), (24, 40)]
    rows = [sphere_row(i, 64) for i in range(3)]
    rows[0]["landmarks"] = landmarks.ravel()
    samples = [decode_row(row, None) for row in rows]
    scores = list(score.score_samples(Tilted(), samples, torch.device("cpu"), batch_size=2))
    summary = score.summarise_scores(scores)
    assert summary["images"] == summary["face"]["all"]["images"] == 3
    expected = []
    for sample in samples:
        z = sample.normals[..., 2][sample.normals.any(-1)] / 127
        expected.append(np.degrees(np.arccos(np.clip(z, -1, 1))).mean())
    assert summary["face"]["all"]["mean"] == pytest.approx(np.mean(expected), abs=0.1)
    assert summary["hull"]["all"]["images"] == 1
    # Near the centre of the ball the viewer's direction is a better answer than on all of it.
    assert summary["hull"]["all"]["mean"] < summary["face"]["all"]["mean"]
    assert summary["face"]["skin very light"]["images"] == 2
    assert summary["face"]["light lamp"]["images"] == 3


def test_hull_lies_between_its_landmarks():
    landmarks = np.full((68, 2), 20.0)
    landmarks[:3] = [(10, 20), (30, 20), (20, 40)]
    row = {"id": "a", "normal": encode_png(encode_normals(np.broadcast_to(FRONT, (64, 64, 3))))}
    sample = decode_row({**row, "landmarks": landmarks.ravel()}, None)
    hull = cases.landmark_mask(sample)
    assert hull[20, 10:31].all()
    assert not hull[19].any()
    assert hull[40, 20]
    assert not hull[41].any()
    assert cases.landmark_mask(decode_row(row, None)) is None


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fresh.safetensors"
    save_weights(build_network("compact"), path)
    return str(path)


@pytest.fixture
def pictures(tmp_path):
    """A folder of image/normal pairs, one with a mask, one broken, one without normals."""
    for kind in ("images", "normals", "masks"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
    for i in range(3):
        row = sphere_row(i, 64)
        (tmp_path / "pairs" / "images" / f"{i}.png").write_bytes(row["image"])
        (tmp_path / "pairs" / "normals" / f"{i}.png").write_bytes(row["normal"])
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    (tmp_path / "pairs" / "masks" / "0.png").write_bytes(encode_png(mask))
    (tmp_path / "pairs" / "normals" / "1.png").write_bytes(b"broken")
    (tmp_path / "pairs" / "images" / "9.jpg").write_bytes(sphere_row(9, 64)["image"])
    (tmp_path / "pairs" / "images" / "notes.txt").write_text("not a picture")
    return tmp_path / "pairs"


def test_folders_of_pairs_are_read(pictures):
    bad = BadRows()
    found = {sample.id: sample for sample in cases.read_cases([str(pictures)], bad, 32)}
    assert set(found) == {"0", "2"}
    assert {name.rsplit("/", 1)[1] for name in bad.reasons} == {"1.png", "9.jpg"}
    assert found["2"].image.shape == (32, 32, 3)
    assert not cases.face_mask(found["0"])[:, 16:].any()
    assert cases.face_mask(found["0"])[:, :16].any()


def test_a_folder_without_labels_is_an_error(tmp_path, pictures):
    path = write_rows(tmp_path / "a.parquet", [sphere_row(0, 32, normal=None, regions=None)])
    with pytest.raises(DataError, match="no labelled crop"):
        list(cases.read_cases([path], BadRows(), 32))


def test_command_prints_a_table_and_stores_the_rest(tmp_path, weights, pictures):
    path = write_rows(tmp_path / "rows.parquet", [sphere_row(i, 64) for i in range(5)])
    out = tmp_path / "score"
    arguments = [weights, path, str(pictures), "--size", "64", "--out", str(out)]
    result = CliRunner().invoke(evaluate_job.command, arguments)
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "evaluation.json").read_text())
    assert summary["images"] == 7
    assert summary["bad_rows"] == 2
    assert f"| face mask | 7 | {summary['face']['all']['mean']:.2f} |" in result.output
    assert (out / "evaluation.md").read_text() in result.output
    area = "hull" if summary["hull"] else "face"
    assert result.stdout.startswith(f"{summary[area]['all']['mean']:.2f} degrees on average")
    lines = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    means = [line["face"]["mean"] for line in lines]
    assert np.mean(means) == pytest.approx(summary["face"]["all"]["mean"])
    assert (out / "sheet.png").stat().st_size > 1000


def test_sheet_ranks_by_error(weights, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", [sphere_row(i, 32) for i in range(9)])
    _, scores = evaluate(weights, [path], size=32)
    picture = draw_ranked(scores, each=2)
    assert picture.shape == (3 * 32, 2 * 4 * 32, 3)
    worst = max(scores, key=lambda found: found.face["mean"]).sample.image
    # Below the caption the last photo is the worst one.
    assert (picture[-10:, 4 * 32 : 5 * 32] == worst[-10:]).all()


def test_unknown_weights_are_an_error():
    with pytest.raises(WeightsError):
        load_network("no-such-weights")


def test_scan_becomes_labelled_crops(lee_perry_smith, weights, tmp_path):
    table = convert(lee_perry_smith)
    rows = table.to_pylist()
    assert len(rows) == 14
    own = [json.loads(row["meta"])["landmarks_of"] == row["id"] for row in rows]
    assert sum(own) >= 10
    row = next(row for row in rows if row["id"] == "yawp00_pitchp00_front")
    sample = decode_row(row, None)
    # The truth fits the picture: mirrored at the middle of the nose bridge the frontal scan is symmetric.
    bridge = round(float(sample.landmarks[27:31, 0].mean()))
    half = min(bridge, 255 - bridge) - 30
    left = sample.normals[60:200, bridge - half : bridge].astype(int)
    right = sample.normals[60:200, bridge + 1 : bridge + half + 1][:, ::-1].astype(int)
    both = left.any(-1) & right.any(-1)
    assert np.abs(left[..., 0] + right[..., 0])[both].mean() < 20
    assert np.abs(left[..., 1] - right[..., 1])[both].mean() < 15
    # Light from the front: bright pixels face the viewer.
    grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
    inside = cases.landmark_mask(sample)
    assert np.corrcoef(grey[inside], sample.normals[..., 2][inside])[0, 1] > 0.5
    path = tmp_path / "scan.parquet"
    pq.write_table(table, path)
    front = [found for found in cases.read_cases([str(path)], BadRows(), 128)]
    scores = list(score.score_samples(Tilted(), front, torch.device("cpu")))
    # The constant answer is known to be 34.9 degrees off on the whole surface of these renders.
    assert 25 < score.summarise_scores(scores)["hull"]["all"]["mean"] < 40
