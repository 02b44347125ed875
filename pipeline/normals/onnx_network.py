"""The network through ONNX Runtime: on CPUs, without torch.

fp32 takes the graph of the architecture (`pipeline.normals.graph_export`) and the parameters of the weights'
own file, int8 the file that was made of them (`pipeline.normals.quantise`). One thread, one crop at a time,
which is as fast as several: whatever the neighbours, a crop's answer is the same bit for bit.
"""

import numpy as np
import onnxruntime

from pipeline.errors import WeightsError
from pipeline.normals.estimated import LARGEST_LOG_CONFIDENCE, Estimated
from pipeline.normals.parameters import graph_parameters, read_parameters
from pipeline.onnx_session import PROVIDERS, session_options
from pipeline.weights import WeightsFile

BATCH = 8
"""Crops whose answers are stacked together."""

SHORTEST = 1e-6
"""A raw vector shorter than this has no direction; its normal faces the viewer."""


class OnnxNetwork:
    """Weights on one thread of a CPU; see `pipeline.normals.inference.Network`.

    Raises:
        WeightsError: The file does not hold weights of its architecture.
    """

    device = "cpu"

    def __init__(self, weights: WeightsFile, batch_size: int | None, mirror: bool, precision: str):
        self.batch_size = batch_size or BATCH
        self.precision = precision
        self._mirror = mirror
        self._session = _int8_session(weights) if self.precision == "int8" else _fp32_session(weights)

    def __call__(self, crops: np.ndarray) -> Estimated:
        """Answers for (N, H, W, 3) uint8 crops."""
        answers = [self._answer(crop[None]) for crop in crops]
        normals, mask, confidence = (
            None if part[0] is None else np.concatenate(part) for part in zip(*answers, strict=True)
        )
        assert normals is not None
        return Estimated(normals, mask, confidence)

    def _answer(self, crop: np.ndarray) -> Estimated:
        normals, *extra = self._run(crop)
        if self._mirror:
            mirrored, *others = (part[..., ::-1] for part in self._run(crop[:, :, ::-1]))
            normals = _unit(normals + mirrored * np.array([-1, 1, 1], np.float32).reshape(1, 3, 1, 1))
            extra = [(one + other) / 2 for one, other in zip(extra, others, strict=True)]
        # Weights that overflow must not reach a file as NaN, or as zeros where only the length overflows;
        # such pixels face the viewer and are masked out.
        unit = np.linalg.norm(normals, axis=1) > 0.5  # False for NaN
        normals = np.ascontiguousarray(normals.transpose(0, 2, 3, 1))
        if not unit.all():
            normals[~unit] = 0, 0, 1
        if not extra:
            return Estimated(normals, None, None)
        mask, log = (part[:, 0] for part in extra)
        log = np.nan_to_num(log, nan=-LARGEST_LOG_CONFIDENCE)
        confidence = np.exp(log.clip(-LARGEST_LOG_CONFIDENCE, LARGEST_LOG_CONFIDENCE))
        return Estimated(normals, np.where((mask > 0) & unit, np.uint8(255), np.uint8(0)), confidence)

    def _run(self, crop: np.ndarray) -> list[np.ndarray]:
        """Unit normals (1, 3, H, W), and logits and log-confidence (1, 1, H, W) where there are any."""
        raw, *extra = self._session.run(None, {"image": np.ascontiguousarray(crop)})
        return [_unit(raw), *extra]


def _unit(raw: np.ndarray) -> np.ndarray:
    """Vectors (1, 3, H, W) at unit length; (0, 0, 1) where there is no direction."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.einsum("nchw,nchw->nhw", raw, raw))[:, None]
        normals = raw / np.maximum(length, SHORTEST)
    if (short := length[:, 0] < SHORTEST).any():
        normals.transpose(0, 2, 3, 1)[short] = 0, 0, 1
    return normals


def _fp32_session(weights: WeightsFile) -> onnxruntime.InferenceSession:
    graph, parameters = read_parameters(weights)
    taken = graph_parameters(graph, parameters)
    options = session_options()
    options.add_external_initializers(
        [f"network.{name}" for name in taken],
        [onnxruntime.OrtValue.ortvalue_from_numpy(values) for values in taken.values()],
    )
    return onnxruntime.InferenceSession(graph.read_bytes(), options, providers=PROVIDERS)


def _int8_session(weights: WeightsFile) -> onnxruntime.InferenceSession:
    entry = weights.entry
    try:
        session = onnxruntime.InferenceSession(weights.int8, session_options(), providers=PROVIDERS)
    except Exception as error:  # onnxruntime has kinds of its own for damaged files
        raise WeightsError(f"The int8 file of {entry.name!r} cannot be run: {error}.") from error
    made_of = session.get_modelmeta().custom_metadata_map.get("weights_sha256")
    if made_of != entry.sha256:
        raise WeightsError(f"The int8 file of {entry.name!r} was made of other weights.")
    return session
