"""All errors that Facet raises on purpose, each with a stable code.

The command line shows a FacetError as one line and exits with 2. A code is part of the interface:
records, reports and scripts rely on it, so it is added but never renamed. An `ImageError` is about one photo:
it never ends a run.
"""

from typing import Any

OUT_OF_MEMORY = "out_of_memory"
INTERNAL_ERROR = "internal_error"


class FacetError(Exception):
    """Base of all expected errors.

    Args:
        message: One sentence for the user: what is wrong and what to do about it.
        code: Stable identifier; the class's own code when not given.
    """

    code = "facet_error"

    def __init__(self, message: str, code: str | None = None):
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code

    def __reduce__(self):
        # Errors cross process borders in Ray; the default would drop the code.
        return type(self), (self.message, self.code)


class ConfigError(FacetError):
    """An option or a configuration file is wrong."""

    code = "config_invalid"


class InputError(FacetError):
    """The input as a whole cannot be listed or holds nothing."""

    code = "input_unreadable"


class OutputError(FacetError):
    """The output folder is taken, read-only or full."""

    code = "output_unusable"


class PlanError(FacetError):
    """The cluster cannot run what is asked."""

    code = "plan_impossible"


class FailureLimitError(FacetError):
    """More photos failed than the run allows.

    Attributes:
        counts: `pipeline.run.counts.Counts` of the run so far; None where the error has crossed processes.
    """

    code = "too_many_failures"

    def __init__(self, message: str, code: str | None = None, *, counts: Any = None):
        super().__init__(message, code)
        self.counts = counts


class WeightsError(FacetError):
    """Weights of another architecture; also weights_unknown, weights_missing, weights_checksum."""

    code = "weights_invalid"


class AssetsError(FacetError):
    """A face model or another asset is missing or altered."""

    code = "assets_invalid"


class DataError(FacetError):
    """Training or evaluation data is empty or malformed."""

    code = "data_invalid"


class TrainingError(FacetError):
    """Training cannot go on: the loss is not finite, or the checkpoint is of another architecture."""

    code = "training_failed"


class ImageError(FacetError):
    """One photo cannot be processed, as its row says; also landmarks_invalid, detector_failed, fit_failed."""

    code = "image_failed"


class ReadError(ImageError):
    """The bytes of one photo cannot be had; also not_found, access_denied, timeout, file_too_large."""

    code = "read_failed"


class DecodeError(ImageError):
    """The bytes of one photo cannot be decoded; also empty_file, unsupported_format, truncated."""

    code = "decode_failed"


class SizeError(ImageError):
    """A photo has too many pixels; or too few: too_small."""

    code = "too_many_pixels"


class CrashError(ImageError):
    """A photo made native code crash; also timeout, out_of_memory."""

    code = "crashed"


def portable_error(error: Exception) -> FacetError:
    """Returns what another process can be told of an error: others than ours may not survive pickling."""
    if isinstance(error, FacetError):
        return error
    # OpenCV and dlib's C++ code have words of their own for it.
    if isinstance(error, MemoryError) or "nsufficient memory" in str(error) or "bad_alloc" in str(error):
        return ImageError("There was not enough memory for this photo.", OUT_OF_MEMORY)
    return ImageError(f"{type(error).__name__}: {error}", INTERNAL_ERROR)
