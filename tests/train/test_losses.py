import math

import pytest
import torch

from pipeline.normals.network import NormalsOutput
from pipeline.regions import Region
from pipeline.train import losses
from pipeline.train.config import LossConfig


def tilted(degrees: float, height: int = 4, width: int = 4) -> torch.Tensor:
    """Normals (1, 3, H, W) turned from the viewer to the right by an angle."""
    radians = math.radians(degrees)
    vector = torch.tensor([math.sin(radians), 0.0, math.cos(radians)])
    return vector.view(1, 3, 1, 1).expand(1, 3, height, width).clone()


def terms(raw: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> dict[str, float]:
    found = losses.normals_terms(NormalsOutput(raw, None, None), target, weights)
    return {name: float(value) for name, value in found.items()}


def test_values_of_a_constant_error():
    found = terms(2 * tilted(30), tilted(0), torch.ones(1, 4, 4))
    assert found["cosine"] == pytest.approx(1 - math.cos(math.radians(30)), abs=1e-6)
    assert found["chord"] == pytest.approx(2 * math.sin(math.radians(15)), abs=1e-4)
    assert found["gradient"] == pytest.approx(0, abs=1e-6)
    assert found["unit"] == pytest.approx(1, abs=1e-6)


def test_pixels_count_by_their_weight():
    raw = tilted(0)
    raw[..., 0] = tilted(60)[..., 0]
    raw[..., 1] = tilted(90)[..., 1]
    weights = torch.zeros(1, 4, 4)
    weights[..., 0], weights[..., 2] = 0.5, 1.5
    # Columns 0 and 2 count 1 : 3; column 1, the worst, does not count.
    assert terms(raw, tilted(0), weights)["cosine"] == pytest.approx(0.5 / 4, abs=1e-6)


def test_gradient_term_of_a_step():
    difference = torch.zeros(1, 3, 4, 4)
    difference[:, 0, :, 2:] = 1.0
    weights = torch.ones(1, 4, 4)
    # One pixel apart in x: 1 of 3 pairs changes by 1; two apart: 2 of 2; in y none.
    expected = (1 / 3 + 0 + 2 / 2 + 0) / 4
    assert float(losses.gradient_term(difference, weights)) == pytest.approx(expected)
    weights[..., 2] = 0
    # No counted pair at distance 1 holds the step; at distance 2 the pair (1, 3) does.
    assert float(losses.gradient_term(difference, weights)) == pytest.approx(1 / 4)


def test_the_gradient_term_sees_lost_detail_that_a_tilt_has_not():
    bumpy = tilted(0, 8, 8)
    bumpy[..., ::2] = tilted(20, 8, 8)[..., ::2]
    weights = torch.ones(1, 8, 8)
    smooth = terms(tilted(10, 8, 8), bumpy, weights)
    off = terms(tilted(10, 8, 8), tilted(0, 8, 8), weights)
    assert smooth["cosine"] == pytest.approx(off["cosine"], abs=1e-6)
    assert smooth["gradient"] > 0.1 > off["gradient"]


def test_no_counted_pixel_gives_zero_and_no_nan():
    raw = torch.zeros(1, 3, 4, 4, requires_grad=True)
    target, weights = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4)
    found = losses.normals_terms(NormalsOutput(raw, None, None), target, weights)
    total = torch.stack(list(found.values())).sum()
    assert float(total.detach()) == 0
    total.backward()
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize("degrees", [0.0, 180.0])
def test_exact_and_opposite_answers_have_finite_gradients(degrees):
    raw = tilted(degrees).requires_grad_()
    found = losses.normals_terms(NormalsOutput(raw, None, None), tilted(0), torch.ones(1, 4, 4))
    torch.stack(list(found.values())).sum().backward()
    assert torch.isfinite(raw.grad).all()


def test_mask_term_is_the_cross_entropy_of_known_pixels():
    logits = torch.zeros(1, 1, 2, 2)
    logits[0, 0, 0, 0] = math.log(3)  # probability 0.75
    answer = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    known = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert float(losses.mask_term(logits, answer, known)) == pytest.approx(expected)


def test_confidence_term_is_smallest_at_the_true_concentration():
    # For a large concentration k the expected 1 - cos is 1 / k, and there the likelihood peaks.
    normals, target, weights = tilted(10), tilted(0), torch.ones(1, 4, 4)
    best = -math.log(1 - math.cos(math.radians(10)))

    def at(log_k: float) -> float:
        return float(losses.confidence_term(torch.full((1, 1, 4, 4), log_k), normals, target, weights))

    assert at(best) < min(at(best - 0.3), at(best + 0.3))
    k = math.exp(best)
    expected = k * (1 - math.cos(math.radians(10))) - best + math.log(1 - math.exp(-2 * k))
    assert at(best) == pytest.approx(expected, abs=1e-4)


def test_confidence_does_not_pull_at_the_normals():
    normals = tilted(10).requires_grad_()
    log_k = torch.zeros(1, 1, 4, 4, requires_grad=True)
    losses.confidence_term(log_k, normals, tilted(0), torch.ones(1, 4, 4)).backward()
    assert normals.grad is None
    assert log_k.grad.abs().sum() > 0


def test_image_term_is_the_mean_absolute_difference():
    assert float(losses.image_term(torch.full((1, 3, 2, 2), 0.25), torch.ones(1, 3, 2, 2))) == 0.75


def test_tables_know_every_region():
    tables = losses.RegionTables(LossConfig(skin=1, eye=0.5, mouth=0.25, neck=0.2, hair=0.1))
    weight = {region: float(tables.weights[region]) for region in Region}
    assert weight == pytest.approx(
        {
            Region.BACKGROUND: 0,
            Region.SKIN: 1,
            Region.EYE: 0.5,
            Region.MOUTH: 0.25,
            Region.NECK: 0.2,
            Region.HAIR: 0.1,
            Region.OCCLUDER: 0,
            Region.IGNORE: 0,
        }
    )
    assert [region for region in Region if tables.answer[region]] == [
        Region.SKIN,
        Region.EYE,
        Region.MOUTH,
        Region.NECK,
    ]
    assert [region for region in Region if not tables.known[region]] == [Region.IGNORE]
