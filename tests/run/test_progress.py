"""What a run says while it goes and when it ends."""

import io
import time
from collections import Counter

import pytest

from pipeline.run.counts import FAILED, OK, Counts
from pipeline.run.job import Result
from pipeline.run.progress import Progress
from pipeline.run.summary import summarise, summarise_stopped, verdict


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def counts(images: int, faces: int = 0, **failures: int) -> Counts:
    total = Counts(images=images, found=Counter(faces=faces))
    total.error_codes.update(failures)
    return total


def test_line_tells_rate_and_time_left_of_this_session():
    clock = Clock()
    shown = Progress(10_000, counts(4000, 4100, truncated=5), stream=io.StringIO(), clock=clock)
    assert shown.line() == "4,000/10,000 photos, first results to come"
    clock.now += 50
    shown.add(counts(1000, 900, timeout=2))
    rates = "20 photos and 18 faces a second"
    assert shown.line() == f"5,000/10,000 photos, {rates}, 5,000 faces, 7 failed, 4:10 left"
    clock.now += 10  # until the next result the time goes down, and nothing else changes
    assert shown.line().endswith(f"{rates}, 5,000 faces, 7 failed, 4:00 left")
    clock.now += 9999
    assert shown.line().endswith("7 failed, should be done by now")


def test_the_rate_begins_with_the_first_worker():
    clock = Clock()
    shown = Progress(100, Counts(), stream=io.StringIO(), clock=clock)
    clock.now += 30
    shown.workers(1, 2)
    clock.now += 5
    shown.add(counts(10))
    shown.workers(2, 2)
    assert shown.line() == "10/100 photos, 2 photos and 0 faces a second, 0 faces, 0 failed, 0:45 left"


def test_line_tells_what_is_waited_for():
    shown = Progress(10, Counts(), stream=io.StringIO(), clock=Clock())
    shown.workers(1, 2)
    assert shown.line() == "0/10 photos, first results to come, 1 of 2 workers ready"


def test_lines_are_written_where_there_is_no_terminal():
    """One after each interval, whether or not anything was done meanwhile."""
    written = io.StringIO()
    with Progress(10, Counts(), stream=written, interval=0.001):
        while written.getvalue().count("0/10 photos") < 2:
            time.sleep(0.001)
    with Progress(10, Counts(), stream=written, interval=1000):
        pass


def test_bar_in_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    with Progress(10, Counts(), stream=screen) as shown:
        shown.add(counts(10, 11))
    assert "10/10" in screen.getvalue()
    assert "11 faces" in screen.getvalue()


def test_summary_names_failures_by_code_and_how_to_go_on():
    total = Counts(
        records=5, images=5, found=Counter(faces=2), statuses=Counter({OK: 1, "no_face": 1, FAILED: 3})
    )
    total.error_codes.update(truncated=2, empty_file=1)
    total.examples = {"truncated": [("/a\x1b[2J.jpg", "Ends\nearly.")], "empty_file": [("/ü.jpg", "Empty.")]}
    text = summarise(Result(total, 2.5, total, [], "out/report/index.html"), "out/")
    assert text.splitlines() == [
        "5 photos: 1 with 2 faces, 1 without a face, 3 failed.",
        "  truncated: 2",
        "    /a?[2J.jpg: Ends?early.",
        "  empty_file: 1",
        "    /ü.jpg: Empty.",
        "In 2.5 s: 2 photos and 0.8 faces a second, start and end included.",
        "Look at it:  out/report/index.html",
        'Read it:     pyarrow.dataset.dataset("out/records").to_table()',
    ]
    assert "Look at it" not in summarise(Result(total, 2.5, Counts(), [], None), "out")
    assert summarise_stopped(Counts(images=1), "out").startswith("Stopped. 1 photo ")


def test_the_rate_is_that_of_the_photos_of_this_session():
    """After a kill the time of what was done before is not known."""
    total, now = counts(100, 50), counts(10, 20)
    text = summarise(Result(total, 4.0, now, [], None), "out")
    assert "10 photos of them now, in 4.0 s: 2.5 photos and 5 faces a second" in text
    assert "a second" not in summarise(Result(total, 4.0, Counts(), [], None), "out")


@pytest.mark.parametrize(
    ("codes", "records", "says"),
    [
        ({"truncated": 2, "empty_file": 1}, 3, "Every photo failed: 2 truncated, 1 empty_file."),
        ({"truncated": 99}, 100, None),
        (
            {"internal_error": 1, "crashed": 1},
            100,
            "2 of 100 photos failed by no fault of theirs: 1 ",
        ),
        ({"crashed": 1}, 100, None),
        ({"fit_failed": 2}, 100, "2 of 100 photos"),
        ({}, 0, None),
    ],
)
def test_a_run_that_went_wrong_is_told(codes, records, says):
    found = verdict(Counts(records=records, images=records, error_codes=Counter(codes)))
    assert found is None if says is None else found.startswith(says)
