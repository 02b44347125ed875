"""All errors that Facet raises on purpose, each with a stable code.

FacetError
    ConfigError          config_invalid        an option or a configuration file is wrong
    InputError           input_unreadable      the input as a whole cannot be listed or holds nothing
    OutputError          output_unusable       the output folder is taken, read-only or full
    PlanError            plan_impossible       the cluster cannot run what is asked
    FailureLimitError    too_many_failures     more photos failed than the run allows
    WeightsError         weights_invalid       weights of another architecture (also weights_unknown,
                                                weights_missing, weights_checksum)
    AssetsError          assets_invalid        a face model or other asset is missing or altered
    DataError            data_invalid          training or evaluation data is empty or malformed
    TrainingError        training_failed       loss not finite, checkpoint of another architecture
    ImageError           image_failed          one photo; never ends a run, becomes its row's error_code
                                               (also landmarks_invalid, detector_failed, internal_error)
        ReadError        read_failed           (also not_found, access_denied, timeout, file_too_large)
        DecodeError      decode_failed         (also empty_file, unsupported_format, truncated)
        SizeError        too_many_pixels       (also too_small)
        CrashError       crashed               ended the process that worked on it (also timeout,
                                               out_of_memory)

The command line shows a FacetError as one line and exits with 2. A code is part of the interface:
records, reports and scripts rely on it, so it is added but never renamed.
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
    """Weights are missing, altered or of another architecture."""

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
    """One photo cannot be processed; becomes the error_code of its row."""

    code = "image_failed"


class ReadError(ImageError):
    """The bytes of one photo cannot be had."""

    code = "read_failed"


class DecodeError(ImageError):
    """The bytes of one photo are no image that can be decoded."""

    code = "decode_failed"


class SizeError(ImageError):
    """A photo has too many pixels, or too few."""

    code = "too_many_pixels"


class CrashError(ImageError):
    """A photo made native code crash, hang or eat memory."""

    code = "crashed"


def portable_error(error: Exception) -> FacetError:
    """Returns what another process can be told of an error: others than ours may not survive pickling."""
    if isinstance(error, FacetError):
        return error
    # OpenCV and dlib's C++ code have words of their own for it.
    if isinstance(error, MemoryError) or "nsufficient memory" in str(error) or "bad_alloc" in str(error):
        return ImageError("There was not enough memory for this photo.", OUT_OF_MEMORY)
    return ImageError(f"{type(error).__name__}: {error}", INTERNAL_ERROR)
