"""The child process that works on photos: what native code does there stays there."""

import io
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import psutil
import pytest
from bad_images import encode, portrait
from faulty_detector import CODES, REFERENCE, mark
from PIL import Image

from pipeline.config import load_config
from pipeline.errors import AssetsError, ConfigError, CrashError, FacetError, ImageError, portable_error
from pipeline.faces.custom import load_detector
from pipeline.faces.detect import DetectConfig
from pipeline.images.decode import DecodeConfig
from pipeline.images.items import ListedFile, ListedItem
from pipeline.recipes.crop_stage import CropStage
from pipeline.recipes.face_record import FORMAT
from pipeline.recipes.normals import NormalsRun
from pipeline.run import isolate
from pipeline.run.config import LimitsConfig
from pipeline.run.isolate import Isolated
from pipeline.run.items import Item, Photo
from pipeline.run.recipe import Stage
from pipeline.run.records import new_record

CUSTOM = DetectConfig(mode="custom", detector=REFERENCE)


def isolated(detect: DetectConfig = CUSTOM, decode: DecodeConfig | None = None, **limits) -> Isolated:
    stage = Stage("crop", CropStage)
    return Isolated(stage, (decode or DecodeConfig(), detect), LimitsConfig(**limits))


def item_of(data: bytes, uri: str = "/x.png") -> Item:
    file = ListedFile(1, uri)
    return Item(new_record(FORMAT, ListedItem(1, uri, (file,))), [Photo(file, data)])


def crop(stage: Isolated | CropStage, data: bytes) -> dict:
    """Takes a photo through the stage; returns its record."""
    item = item_of(data)
    stage(item)
    return item.record


@pytest.fixture(scope="module")
def child():
    """A child process with generous limits, for good photos."""
    cropper = isolated()
    yield cropper
    cropper.close()


def bad(fault: str) -> bytes:
    return encode(mark(portrait(), fault), "PNG")


GOOD = encode(portrait(), "PNG")


def pid_of(cropper: Isolated) -> int:
    return cropper._ready_child()._process.pid


def outcome(stage: Isolated | CropStage, data: bytes) -> str:
    try:
        record = crop(stage, data)
    except FacetError as error:
        return repr(error)
    faces = [{name: np.asarray(value).tolist() for name, value in face.items()} for face in record["faces"]]
    return str({**record, "faces": faces})


def test_answers_are_those_of_the_same_process(child):
    files = [GOOD, GOOD[:3000], b"", encode(np.zeros((64, 64), np.uint8), "PNG")]
    files.append(encode(np.asarray(Image.open("tests/photos/astronaut.jpg")), "JPEG"))
    here = CropStage(DecodeConfig(), CUSTOM)
    for data in files:
        assert outcome(child, data) == outcome(here, data)


def test_photo_that_breaks_the_process_costs_only_itself(caplog):
    caplog.set_level("DEBUG", "pipeline.run.isolate")
    patient = isolated(photo_memory_mb=768, attempts=1)
    hasty = isolated(photo_seconds=3, attempts=1)
    said = {"segfault": "SIGSEGV", "abort": "SIGABRT", "exit": "exit status 3", "memory": "768 MB"}
    for fault, code in CODES.items():
        cropper = hasty if code == "timeout" else patient
        before = pid_of(cropper)
        if code == "detector_failed":
            with pytest.raises(ImageError) as caught:
                crop(cropper, bad(fault))
            error = caught.value
            assert pid_of(cropper) == before  # nothing is broken
            assert "ZeroDivisionError: odd" in error.message
        else:
            with pytest.raises(CrashError) as caught:
                crop(cropper, bad(fault))
            error = caught.value
            assert pid_of(cropper) != before
            assert said.get(fault, "longer than 3 s (limits.photo_seconds)") in error.message
        assert error.code == code
    assert "faulty_detector.py" in caplog.text  # Python's own account of a crash
    assert len(crop(patient, GOOD)["faces"]) == 1
    patient.close()
    hasty.close()


@pytest.mark.parametrize("attempts", [1, 3])
def test_photo_is_tried_so_often_and_no_more(attempts, monkeypatch):
    asked = []
    ask = isolate.Child.ask
    monkeypatch.setattr(isolate.Child, "ask", lambda *given: asked.append(given[1]) or ask(*given))
    cropper = isolated(attempts=attempts)
    with pytest.raises(CrashError):
        crop(cropper, bad("segfault"))
    assert sum(message is not None for message in asked) == attempts
    cropper.close()


def test_second_try_may_succeed(tmp_path, monkeypatch):
    monkeypatch.setenv("FACET_TEST_ONCE", str(tmp_path / "failed"))
    cropper = isolated()
    assert len(crop(cropper, bad("once"))["faces"]) == 1
    assert (tmp_path / "failed").exists()
    cropper.close()


def test_what_libraries_print_is_not_taken_for_an_answer_and_not_shown(child, capfd):
    assert len(crop(child, bad("print"))["faces"]) == 1
    assert len(crop(child, bad("print"))["faces"]) == 1
    assert capfd.readouterr() == ("", "")
    assert len("".join(child._child.last_words())) <= 2000


def test_bomb_below_the_pixel_limit_runs_into_the_memory_limit():
    buffer = io.BytesIO()
    Image.new("RGB", (16_000, 12_000)).save(buffer, "PNG")
    decode = DecodeConfig(max_pixels=10**9)
    cropper = isolated(DetectConfig(), decode, photo_memory_mb=768)
    with pytest.raises(CrashError) as caught:
        crop(cropper, buffer.getvalue())
    assert caught.value.code == "out_of_memory"
    cropper.close()


def test_killed_while_idle_harms_no_photo(child):
    os.kill(pid_of(child), signal.SIGKILL)
    assert len(crop(child, GOOD)["faces"]) == 1


def test_killed_by_the_system_is_want_of_memory():
    cropper = isolated(attempts=1)
    with pytest.raises(CrashError, match="killed") as caught:
        crop(cropper, bad("kill"))
    assert caught.value.code == "out_of_memory"
    cropper.close()


def test_interrupt_of_the_parent_leaves_no_stale_answer(child, monkeypatch):
    pid_of(child)

    def interrupted(file):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(isolate.pickle, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            crop(child, GOOD)
    record = crop(child, encode(np.zeros((99, 77), np.uint8), "PNG"))
    assert (record["width"], record["faces"]) == (77, [])


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
        crop(cropper, GOOD)
    cropper.close()


def test_process_that_cannot_start_is_said(monkeypatch):
    cropper = isolated(DetectConfig(mode="custom", detector="faulty_detector:make_fault"))
    with pytest.raises(FacetError, match="cannot start") as caught:
        crop(cropper, GOOD)
    assert caught.value.code == "worker_died"
    cropper.close()
    monkeypatch.setattr(isolate, "MODULE", "pipeline.run.no_such_module")
    cropper = isolated()
    with pytest.raises(FacetError, match=r"No module named pipeline\.run\.no_such_module"):
        crop(cropper, GOOD)
    cropper.close()


@pytest.mark.parametrize(
    "options",
    [
        ["detect.mode=custom"],
        ["detect.mode=dlib", "detect.detector=a:b"],
        ["detect.mode=custom", "detect.detector=os.system"],
    ],
)
def test_detector_and_mode_belong_together(options):
    with pytest.raises(ConfigError, match="detector"):
        load_config(NormalsRun, None, options)


def test_ends_with_its_parent_also_when_that_is_killed():
    code = (
        "import sys, time\n"
        "from pipeline.run.isolate import Isolated\n"
        "from pipeline.run.recipe import Stage\n"
        "from pipeline.recipes.crop_stage import CropStage\n"
        "from pipeline.run.config import LimitsConfig\n"
        "from pipeline.faces.detect import DetectConfig\n"
        "from pipeline.images.decode import DecodeConfig\n"
        "cropper = Isolated(Stage('crop', CropStage), (DecodeConfig(), DetectConfig()), LimitsConfig())\n"
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
    code = "import pipeline.run.isolate_child as child\nchild.GRACE_SECONDS = 1\nchild.main()\n"
    stage = pickle.dumps((CropStage, (DecodeConfig(), CUSTOM)))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    ) as process:
        pickle.dump((None, 1, stage), process.stdin)
        pickle.dump((1.0, item_of(bad("hang"))), process.stdin)
        process.stdin.close()
        assert process.wait(120) == -signal.SIGALRM


def test_modules_of_the_working_directory_are_not_taken(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('from among the photos')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    cropper = isolated(DetectConfig())
    assert len(crop(cropper, GOOD)["faces"]) == 1
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
    told = pickle.loads(pickle.dumps(portable_error(error)))  # noqa: S301
    assert told.code == code
