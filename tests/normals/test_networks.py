"""The cross-modal networks: passes, skips, the published form, cost."""

import ast
from pathlib import Path

import pytest
import torch
from networks import random_network
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import WeightsError
from pipeline.normals import published
from pipeline.normals.architectures import ARCHITECTURES, build_network
from pipeline.normals.network import NormalsOutput, max_merge

SIZE = 64
PUBLISHED_TABLE = Path(__file__).resolve().parents[3] / "shared" / "specs" / "keys_face_normals.txt"


@pytest.fixture(scope="module", params=ARCHITECTURES)
def network(request):
    """Each architecture in evaluation mode, its heads and norms away from their start values."""
    return random_network(request.param)


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def normals():
    raw = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.normalize(raw, dim=1)


def used_parameters(network, output):
    """Names of the parameters that a backward pass from `output` reaches."""
    network.zero_grad(set_to_none=True)
    output.sum().backward()
    return {name for name, parameter in network.named_parameters() if parameter.grad is not None}


def multiply_adds(network, size=256):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.image_to_normals(torch.rand(1, 3, size, size))
    return counter.get_total_flops() / 2


@torch.no_grad()
def test_passes_give_maps_of_the_input_size(network, image, normals):
    latent, skips = network.encode_image(image)
    assert latent.shape == network.encode_normals(normals).shape
    assert latent.shape[2:] == (SIZE // 32, SIZE // 32)
    assert all((skip >= 0).all() for skip in skips)
    assert network.image_to_image(image).shape == image.shape
    for output in (network(image), network.normals_to_normals(normals)):
        assert output.raw.shape == image.shape
        assert output.raw.dtype == torch.float32
        for extra in (output.mask_logits, output.log_confidence):
            assert extra is None or extra.shape == (2, 1, SIZE, SIZE)


@torch.no_grad()
def test_zero_laterals_equal_skips_off(network, image):
    latent, skips = network.encode_image(image)
    zero = network.decode_normals(latent, [torch.zeros_like(skip) for skip in skips])
    off = network.decode_normals(latent, None)
    assert torch.equal(zero.raw, off.raw)
    assert torch.equal(network.image_to_normals(image, skips=False).raw, off.raw)
    # ... and the skips do something when they are on.
    assert not torch.allclose(network(image).raw, off.raw, atol=1e-2)


@torch.no_grad()
def test_each_lateral_reaches_the_answer(network, image):
    latent, skips = network.encode_image(image)
    on = network.decode_normals(latent, skips).raw
    for level in range(len(skips)):
        without = [torch.zeros_like(skip) if i == level else skip for i, skip in enumerate(skips)]
        assert not torch.equal(network.decode_normals(latent, without).raw, on)


@torch.no_grad()
def test_skips_that_are_off_are_not_computed(network, image):
    assert network.encode_image(image, skips=False)[1] is None


def test_each_pass_uses_its_own_parts_and_the_shared_ones(network, image, normals):
    to_normals = used_parameters(network, network.image_to_normals(image).raw)
    to_image = used_parameters(network, network.image_to_image(image))
    from_normals = used_parameters(network, network.normals_to_normals(normals).raw)
    assert to_normals & to_image  # the image encoder
    assert to_normals & from_normals  # the normal decoder
    assert not to_image & from_normals
    assert to_normals - to_image - from_normals  # the laterals
    assert {name for name, _ in network.named_parameters()} == to_normals | to_image | from_normals


def test_unit_length_even_without_direction():
    raw = torch.tensor([[3.0, 0, 4], [0, 0, 0], [1e-9, 0, 0], [1e-5, 0, 0], [-1e15, 0, 0]])
    raw = raw.T.reshape(1, 3, 5, 1).requires_grad_()
    normals = NormalsOutput(raw, None, None).normals
    expected = torch.tensor([[0.6, 0, 0.8], [0, 0, 1], [0, 0, 1], [1, 0, 0], [-1, 0, 0]])
    torch.testing.assert_close(normals[0, :, :, 0].T, expected)
    normals.sum().backward()
    assert torch.isfinite(raw.grad).all()


def test_the_compact_network_starts_as_a_face_that_looks_at_the_viewer():
    network = build_network("compact").eval()
    with torch.no_grad():
        answer = network(torch.rand(1, 3, SIZE, SIZE))
    assert answer.normals[:, 2].min() > 0.7
    assert answer.mask_logits.abs().max() < 2


def test_max_merge_takes_the_last_channels():
    decoder = torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1)
    lateral = torch.tensor([5.0, 1]).view(1, 2, 1, 1)
    assert max_merge(decoder, lateral).flatten().tolist() == [1, 5, 3]
    assert max_merge(decoder, None) is decoder


@pytest.mark.parametrize("channels", [3, 5])
def test_max_merge_and_its_gradient_are_those_of_plain_operations(channels):
    generator = torch.Generator().manual_seed(3)
    decoder = torch.rand(2, 5, 4, 4, generator=generator, requires_grad=True)
    lateral = torch.rand(2, channels, 4, 4, generator=generator, requires_grad=True)
    towards = torch.rand(2, 5, 4, 4, generator=generator)
    keep = 5 - channels
    plain = torch.cat([decoder[:, :keep], torch.maximum(decoder[:, keep:], lateral)], 1)
    expected = torch.autograd.grad((plain * towards).sum(), (decoder, lateral))
    merged = max_merge(decoder, lateral)
    assert torch.equal(merged, plain)
    for got, want in zip(
        torch.autograd.grad((merged * towards).sum(), (decoder, lateral)), expected, strict=True
    ):
        assert torch.equal(got, want)
    with torch.no_grad():
        assert torch.equal(max_merge(decoder, lateral), plain)


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(WeightsError, match="compact, resnet_unet"):
        build_network("unet")


def test_published_names_and_shapes():
    """The table that a clean-room reading of the published weights gave."""
    if not PUBLISHED_TABLE.exists():
        pytest.skip("the table of published names is not at hand")
    lines = [line.split(" ", 1) for line in PUBLISHED_TABLE.read_text().splitlines()]
    assert {name: ast.literal_eval(shape) for name, shape in lines} == published.published_shapes()


def test_published_counts():
    shapes = published.published_shapes()
    assert len(shapes) == 404
    assert sum(not name.endswith("num_batches_tracked") for name in shapes) == 344
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    # Below base_model is a copy of the image encoder, and a layer that nobody uses.
    once = [name for name in shapes if not name.startswith("base_model.") or ".fc." in name]
    counts = [torch.Size(shapes[name]).numel() for name in once if not name.endswith(buffers)]
    assert sum(counts) == 35_780_654


def test_parameters_and_cost_of_the_path_from_image_to_normals(image):
    network = build_network("resnet_unet")
    parameters = dict(network.named_parameters())
    used = used_parameters(network, network.image_to_normals(image).raw)
    assert sum(parameters[name].numel() for name in used) == 19_553_603
    paper = multiply_adds(network)
    assert paper == pytest.approx(28.2e9, rel=0.005)

    compact = build_network("compact")
    parameters = dict(compact.named_parameters())
    output = compact.image_to_normals(image)
    used = used_parameters(compact, output.raw + output.mask_logits + output.log_confidence)
    assert sum(parameters[name].numel() for name in used) < 8e6
    assert multiply_adds(compact) < paper / 6
    assert sum(parameter.numel() for parameter in parameters.values()) * 4 < 40e6


def published_state(counters=True):
    """Random tensors in the published form."""
    generator = torch.Generator().manual_seed(4)
    return {
        name: torch.rand(shape, generator=generator)
        for name, shape in published.published_shapes().items()
        if counters or not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("counters", [True, False], ids=["404 keys", "344 keys"])
def test_published_weights_load_strictly(counters):
    state = published_state(counters)
    network = build_network("resnet_unet")
    network.load_state_dict(published.convert_published(state))
    loaded = network.state_dict()
    # The image encoder is there twice, with different values here: the copy outside base_model counts.
    assert torch.equal(loaded["layer0.0.weight"], state["layer0.0.weight"])
    assert torch.equal(loaded["layer4.1.bn2.running_var"], state["layer4.1.bn2.running_var"])
    assert not any(name.startswith("base_model.") for name in loaded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv_up3.0.bias"), r"missing: conv_up3\.0\.bias"),
        (lambda state: state.pop("base_model.fc.bias"), r"missing: base_model\.fc\.bias"),
        (lambda state: state.pop("layer0.1.num_batches_tracked"), "missing: layer0.1.num_batches"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda state: state.update({"conv_last.bias": torch.zeros(4)}), "another shape: conv_last.bias"),
        (lambda state: state.clear(), r"missing: .* and \d+ more"),
    ],
)
def test_wrong_entries_are_named(change, message):
    state = published_state()
    change(state)
    with pytest.raises(WeightsError, match=message):
        published.convert_published(state)


def reference_forward(state, image, normals):
    """The published network written down once more from its table of layers, as plain functions."""
    functional = torch.nn.functional

    def convrelu(x, name, padding):
        weight, bias = state[f"{name}.0.weight"], state[f"{name}.0.bias"]
        return functional.conv2d(x, weight, bias, padding=padding).relu()

    def norm(x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{name}.{field}"] for field in names))

    def block(x, name, stride):
        y = norm(functional.conv2d(x, state[f"{name}.conv1.weight"], None, stride, 1), f"{name}.bn1").relu()
        y = norm(functional.conv2d(y, state[f"{name}.conv2.weight"], None, 1, 1), f"{name}.bn2")
        if stride == 2:
            x = norm(
                functional.conv2d(x, state[f"{name}.downsample.0.weight"], None, 2), f"{name}.downsample.1"
            )
        return (x + y).relu()

    def encode(x, suffix):
        levels = [
            norm(
                functional.conv2d(x, state[f"layer0{suffix}.0.weight"], None, 2, 3), f"layer0{suffix}.1"
            ).relu()
        ]
        y = functional.max_pool2d(levels[0], 3, 2, 1)
        levels.append(block(block(y, f"layer1{suffix}.1.0", 1), f"layer1{suffix}.1.1", 1))
        for i in (2, 3, 4):
            y = block(levels[-1], f"layer{i}{suffix}.0", 2)
            levels.append(block(y, f"layer{i}{suffix}.1", 1))
        return levels

    def up(x):
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    def merge(x, lateral):
        if lateral is None:
            return x
        keep = x.shape[1] - lateral.shape[1]
        return torch.cat([x[:, :keep], torch.maximum(x[:, keep:], lateral)], 1)

    def decode(latent, laterals):
        x = convrelu(latent, "layer4_1x1", 0)
        names = ("conv_up3", "conv_up2", "conv_up1", "conv_up0", "conv_original_size2")
        for name, lateral in zip(names, laterals, strict=True):
            x = convrelu(merge(up(x), lateral), name, 1)
        return functional.conv2d(x, state["conv_last.weight"], state["conv_last.bias"])

    levels = encode(image, "")
    laterals = [convrelu(levels[i], f"layer{i}_1x1", 0) for i in (3, 2, 1, 0)]
    laterals.append(convrelu(convrelu(image, "conv_original_size0", 1), "conv_original_size1", 1))
    x = levels[4]
    for name in ("conv_up3_2", "conv_up2_2", "conv_up1_2", "conv_up0_2", "conv_original_size2_2"):
        x = convrelu(up(x), name, 1)
    image_again = functional.conv2d(x, state["conv_last_2.weight"], state["conv_last_2.bias"])
    return decode(levels[4], laterals), image_again, decode(encode(normals, "_2")[4], [None] * 5)


@torch.no_grad()
def test_resnet_unet_computes_what_the_table_of_layers_says(image, normals):
    network = random_network("resnet_unet")
    expected = reference_forward(network.state_dict(), image, normals)
    got = (
        network.image_to_normals(image).raw,
        network.image_to_image(image),
        network.normals_to_normals(normals).raw,
    )
    for ours, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_extra_head_answers_mask_and_confidence(image):
    network = random_network("resnet_unet", extra_head=True)
    output = network(image)
    assert output.mask_logits.shape == output.log_confidence.shape == (2, 1, SIZE, SIZE)
    assert not torch.equal(output.mask_logits, output.log_confidence)
