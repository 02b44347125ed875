"""Networks in ONNX files, run by ONNX Runtime on one thread of a CPU."""

from typing import TYPE_CHECKING

from pipeline.errors import WeightsError

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = ["CPUExecutionProvider"]


def session_options() -> "onnxruntime.SessionOptions":
    """Returns the options of a session of one thread that keeps no memory between runs."""
    import onnxruntime  # here: it takes a moment

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # No slower, and what one large photo took is given back.
    options.enable_cpu_mem_arena = False
    return options


def open_session(data: bytes, name: str) -> "onnxruntime.InferenceSession":
    """Returns the network of an ONNX file; `name` says whose it is.

    Raises:
        WeightsError: It cannot be run.
    """
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(data, session_options(), providers=PROVIDERS)
    except Exception as error:  # onnxruntime has kinds of its own for damaged files
        raise WeightsError(f"{name} is no network that can be run: {error}.") from error
