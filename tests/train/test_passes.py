import pytest
import torch
from spheres import sphere_row

from pipeline.normals.architectures import build_network
from pipeline.regions import Region
from pipeline.samples.batch import collate
from pipeline.samples.sample import decode_row
from pipeline.train.config import LossConfig, PassConfig
from pipeline.train.passes import NEEDS, TrainingStep, passes_of_step

# Pass -> parts of the compact network that it trains, by the first part of the parameter's name.
TRAINS = {
    "image_to_normals": {"image_encoder", "laterals", "expand", "decoder", "head"},
    "image_to_image": {"image_encoder", "image_decoder", "image_head"},
    "normals_to_normals": {"normal_encoder", "expand", "decoder", "head"},
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("compact")


def batch_of(name: str, **changes):
    samples = [decode_row(sphere_row(i, 32, **changes), None) for i in range(2)]
    return collate(samples, image=name != "normals_to_normals", normals=name != "image_to_image")


def run(network, batches, loss=None):
    network.zero_grad(set_to_none=True)
    step = TrainingStep(network, loss or LossConfig())
    total, terms = step(batches)
    total.backward()
    trained = {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    return total.detach(), terms, trained


@pytest.mark.parametrize("name", NEEDS)
def test_each_pass_trains_its_own_parts_and_nothing_else(network, name):
    _, _, trained = run(network, {name: batch_of(name)})
    assert trained == TRAINS[name]


def test_all_parts_of_the_network_are_trained_by_some_pass(network):
    parts = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert set().union(*TRAINS.values()) == parts


def test_the_finest_skip_is_trained_by_images_and_not_by_normals(network):
    finest = "laterals.3"
    for name, expected in (("image_to_normals", True), ("normals_to_normals", False)):
        run(network, {name: batch_of(name)})
        touched = any(
            parameter.grad is not None and parameter.grad.abs().sum() > 0
            for key, parameter in network.named_parameters()
            if key.startswith(finest)
        )
        assert touched == expected


def test_total_is_the_weighted_sum_of_the_logged_terms(network):
    loss = LossConfig(cosine=2, chord=0.5, gradient=0.25, unit=0.125, mask=3, confidence=0.1, image=4)
    weights = loss.model_dump()
    batches = {name: batch_of(name) for name in NEEDS}
    step = TrainingStep(network, loss)
    for factor in (1.0, 2.0):
        total, terms = step(batches, gradient=factor)
        expected = sum(
            weights[term.split("/")[1]] * (factor if term.endswith("/gradient") else 1) * float(value)
            for term, value in terms.items()
        )
        assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    of_normals = ("cosine", "chord", "gradient", "unit")
    assert set(terms) == {
        *(f"image_to_normals/{term}" for term in (*of_normals, "mask", "confidence")),
        "image_to_image/image",
        *(f"normals_to_normals/{term}" for term in of_normals),
    }


def test_rows_without_regions_do_not_train_the_mask(network):
    batch = batch_of("image_to_normals", regions=None)
    _, terms, _ = run(network, {"image_to_normals": batch})
    assert float(terms["image_to_normals/mask"]) == 0
    assert float(terms["image_to_normals/cosine"]) > 0


def test_untrusted_pixels_do_not_count(network):
    batch = batch_of("image_to_normals")
    _, terms, _ = run(network, {"image_to_normals": batch})
    for label in (Region.IGNORE, Region.OCCLUDER, Region.BACKGROUND):
        changed = batch.regions.clone()
        changed[:, :20] = label
        other = batch.normals.clone()
        other[:, :, :20] *= -1
        hidden = [
            run(network, {"image_to_normals": type(batch)(batch.image, n, changed, batch.has_regions)})[1]
            for n in (batch.normals, other)
        ]
        name = "image_to_normals/cosine"
        assert float(hidden[0][name]) == float(hidden[1][name])
        assert float(hidden[0][name]) != float(terms[name])


def test_passes_run_as_often_as_configured():
    config = PassConfig(image_to_normals=1, image_to_image=3, normals_to_normals=0)
    steps = [passes_of_step(step, config) for step in range(4)]
    both, paired = ["image_to_normals", "image_to_image"], ["image_to_normals"]
    assert steps == [both, paired, paired, both]


def test_resnet_unet_trains_the_same_way():
    torch.manual_seed(0)
    network = build_network("resnet_unet", extra_head=True)
    _, terms, trained = run(network, {"image_to_normals": batch_of("image_to_normals")})
    assert {"layer0", "conv_up0", "conv_last", "extra_head"} <= trained
    assert not {"layer0_2", "conv_last_2"} & trained
    assert "image_to_normals/mask" in terms
