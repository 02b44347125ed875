"""The child process that works on photos: what native code does there stays there."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest
from bad_images import encode, portrait
from faulty_detector import CODES, REFERENCE, mark
from PIL import Image

from pipeline.config import load_config
from pipeline.errors import AssetsError, ConfigError, CrashError, FacetError
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.detectors import load_detector
from pipeline.images.decode import DecodeConfig
from pipeline.run import photo
from pipeline.run.config import LimitsConfig, RunConfig
from pipeline.run.engines import isolate
from pipeline.run.engines.isolate import IsolatedCropper
from pipeline.run.engines.isolate_child import Setup
from pipeline.run.photo import Found, crop_photo

CUSTOM = DetectConfig(mode="custom", detector=REFERENCE)


def isolated(detect: DetectConfig = CUSTOM, **limits) -> IsolatedCropper:
    return IsolatedCropper(DecodeConfig(), detect, LimitsConfig(**limits))


@pytest.fixture(scope="module")
def child():
    """A child process with generous limits, for good photos."""
    cropper = isolated()
    yield cropper
    cropper.close()


def bad(fault: str) -> bytes:
    return encode(mark(portrait(), fault), "PNG")


GOOD = encode(portrait(), "PNG")


def pid_of(cropper: IsolatedCropper) -> int:
    return cropper._ready_child()._process.pid


def same(first: Found, second: Found) -> bool:
    return pickle.dumps(_plain(first)) == pickle.dumps(_plain(second))


def _plain(found: Found) -> list:
    faces = [{name: np.asarray(value).tolist() for name, value in face.items()} for face in found.faces]
    return [found.width, found.height, faces, [crop.tobytes() for crop in found.crops], str(found.error)]


def test_answers_are_those_of_the_same_process(child):
    files = [GOOD, GOOD[:3000], b"", encode(np.zeros((64, 64), np.uint8), "PNG")]
    files.append(encode(np.asarray(Image.open("tests/photos/astronaut.jpg")), "JPEG"))
    finder = FaceFinder(DetectConfig())
    for data in files:
        assert same(child("/x.png", data), crop_photo("/x.png", data, DecodeConfig(), finder))


def test_photo_that_breaks_the_process_costs_only_itself(caplog):
    caplog.set_level("DEBUG", "pipeline.run.engines.isolate")
    patient = isolated(photo_memory_mb=768, attempts=1)
    hasty = isolated(photo_seconds=3, attempts=1)
    said = {"segfault": "SIGSEGV", "abort": "SIGABRT", "exit": "exit status 3", "memory": "768 MB"}
    for fault, code in CODES.items():
        cropper = hasty if code == "timeout" else patient
        before = pid_of(cropper)
        if code == "internal_error":
            error = cropper("/x.png", bad(fault)).error
            assert pid_of(cropper) == before  # nothing is broken
            assert "ZeroDivisionError: odd" in error.message
        else:
            with pytest.raises(CrashError) as caught:
                cropper("/x.png", bad(fault))
            error = caught.value
            assert pid_of(cropper) != before
            assert said.get(fault, "longer than 3 s (limits.photo_seconds)") in error.message
        assert error.code == code
    assert "faulty_detector.py" in caplog.text  # Python's own account of a crash
    assert len(patient("/x.png", GOOD).faces) == 1
    patient.close()
    hasty.close()


@pytest.mark.parametrize("attempts", [1, 3])
def test_photo_is_tried_so_often_and_no_more(attempts, monkeypatch):
    asked = []
    ask = isolate.Child.ask
    monkeypatch.setattr(isolate.Child, "ask", lambda *arguments: asked.append(1) or ask(*arguments))
    cropper = isolated(attempts=attempts)
    with pytest.raises(CrashError):
        cropper("/x.png", bad("segfault"))
    assert len(asked) == attempts
    cropper.close()


def test_second_try_may_succeed(tmp_path, monkeypatch):
    monkeypatch.setenv("FACET_TEST_ONCE", str(tmp_path / "failed"))
    cropper = isolated()
    assert len(cropper("/x.png", bad("once")).faces) == 1
    assert (tmp_path / "failed").exists()
    cropper.close()


def test_what_libraries_print_is_not_taken_for_an_answer_and_not_shown(child, capfd):
    assert len(child("/x.png", bad("print")).faces) == 1
    assert len(child("/x.png", bad("print")).faces) == 1
    assert capfd.readouterr() == ("", "")
    assert len("".join(child._child.last_words())) <= 2000


def test_bomb_below_the_pixel_limit_runs_into_the_memory_limit():
    buffer = io.BytesIO()
    Image.new("RGB", (16_000, 12_000)).save(buffer, "PNG")
    decode = DecodeConfig(max_pixels=10**9)
    cropper = IsolatedCropper(decode, DetectConfig(), LimitsConfig(photo_memory_mb=768))
    with pytest.raises(CrashError) as caught:
        cropper("/bomb.png", buffer.getvalue())
    assert caught.value.code == "out_of_memory"
    cropper.close()


def test_killed_while_idle_harms_no_photo(child):
    os.kill(pid_of(child), signal.SIGKILL)
    assert len(child("/x.png", GOOD).faces) == 1


def test_killed_by_the_system_is_want_of_memory():
    cropper = isolated(attempts=1)
    process = pid_of(cropper)
    photo = bad("loop")
    pid = os.fork()
    if pid == 0:  # does what the kernel would, while the photo is worked on
        time.sleep(2)
        os.kill(process, signal.SIGKILL)
        os._exit(0)
    with pytest.raises(CrashError, match="killed") as caught:
        cropper("/x.png", photo)
    os.waitpid(pid, 0)
    assert caught.value.code == "out_of_memory"
    cropper.close()


def test_interrupt_of_the_parent_leaves_no_stale_answer(child, monkeypatch):
    pid_of(child)

    def interrupted(file):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(isolate.pickle, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            child("/x.png", GOOD)
    found = child("/y.png", encode(np.zeros((99, 77), np.uint8), "PNG"))
    assert (found.width, found.faces) == (77, [])


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("no_such_module:make", "no module no_such_module"),
        ("faulty_detector.nothing:make", "no module faulty_detector.nothing"),
        ("faulty_detector:nothing", "no attribute 'nothing'"),
        ("faulty_detector:fail", "ZeroDivisionError: odd"),
        ("faulty_detector:make_nothing", "returns NoneType"),
    ],
)
def test_detector_that_cannot_be_had(reference, said):
    with pytest.raises(ConfigError, match=said):
        load_detector(reference)


def test_errors_at_the_start_arrive():
    cropper = isolated(DetectConfig(mode="custom", detector="faulty_detector:fail"))
    with pytest.raises(ConfigError, match="ZeroDivisionError: odd"):
        cropper("/x.png", GOOD)
    cropper.close()


def test_process_that_cannot_start_is_said(monkeypatch):
    cropper = isolated(DetectConfig(mode="custom", detector="faulty_detector:make_fault"))
    with pytest.raises(FacetError, match="cannot start") as caught:
        cropper("/x.png", GOOD)
    assert caught.value.code == "worker_died"
    cropper.close()
    monkeypatch.setattr(isolate, "MODULE", "pipeline.run.no_such_module")
    cropper = isolated()
    with pytest.raises(FacetError, match=r"No module named pipeline\.run\.no_such_module"):
        cropper("/x.png", GOOD)
    cropper.close()


@pytest.mark.parametrize(
    "options",
    [["detect.mode=custom"], ["detect.detector=a:b"], ["detect.mode=custom", "detect.detector=os.system"]],
)
def test_detector_and_mode_belong_together(options):
    with pytest.raises(ConfigError, match="detector"):
        load_config(RunConfig, None, options)


def test_ends_with_its_parent_also_when_that_is_killed():
    code = (
        "import sys, time\n"
        "from pipeline.run.engines.isolate import IsolatedCropper\n"
        "from pipeline.run.config import LimitsConfig\n"
        "from pipeline.faces.detect import DetectConfig\n"
        "from pipeline.images.decode import DecodeConfig\n"
        "cropper = IsolatedCropper(DecodeConfig(), DetectConfig(), LimitsConfig())\n"
        "print(cropper._ready_child()._process.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(60)
    assert not psutil.pid_exists(pid)


def test_clock_of_an_orphan_ends_it():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import pipeline.run.engines.isolate_child as child\nchild.GRACE_SECONDS = 1\nchild.main()\n"
    setup = Setup(DecodeConfig(), CUSTOM, 1, 1.0, None)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    ) as process:
        pickle.dump(setup, process.stdin)
        pickle.dump(("/x.png", bad("hang")), process.stdin)
        process.stdin.close()
        assert process.wait(120) == -signal.SIGALRM


def test_modules_of_the_working_directory_are_not_taken(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('from among the photos')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    cropper = isolated(DetectConfig())
    assert len(cropper("/x.png", GOOD).faces) == 1
    cropper.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AssetsError("gone"), "assets_invalid"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (KeyError("x"), "internal_error"),
    ],
)
def test_errors_that_can_be_told_to_another_process(error, code):
    told = pickle.loads(pickle.dumps(photo.portable_error(error)))  # noqa: S301
    assert told.code == code
