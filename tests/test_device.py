"""Which device a network computes on, and how precisely."""

import pytest
import torch

from pipeline.device import choose_device, faster_in_bf16, use_bf16
from pipeline.errors import PlanError


def test_auto_takes_a_gpu_where_there_is_one():
    assert str(choose_device("auto", gpus=0)) == "cpu"
    assert str(choose_device("auto", gpus=1)) == "cuda"
    assert str(choose_device("cuda:1", gpus=2)) == "cuda:1"


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "tpu", "mps"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(PlanError, match=name):
        choose_device(name, gpus=0)


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"arm_bf16": True}, True),
        ({"avx2": True, "cpu_name": "AMD EPYC"}, False),
    ],
)
def test_bf16_is_taken_where_it_is_faster(able, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert faster_in_bf16(torch.device("cpu")) is expected


def test_precision_is_what_was_asked_for():
    assert use_bf16("bf16", torch.device("cpu"))
    assert not use_bf16("fp32", torch.device("cpu"))
    with pytest.raises(ValueError, match="precision"):
        use_bf16("float16", torch.device("cpu"))
