"""Numbers, sizes and times as people read them."""

import pytest

from pipeline.words import clock, duration, printable, quantity, rate, size_text


@pytest.mark.parametrize(("count", "text"), [(0, "0 photos"), (1, "1 photo"), (1000, "1,000 photos")])
def test_quantity(count, text):
    assert quantity(count, "photo") == text


@pytest.mark.parametrize(("size", "text"), [(1_250_000, "1.2 MB"), (2.5e9, "2.5 GB"), (3e12, "3,000.0 GB")])
def test_size(size, text):
    assert size_text(size) == text


def test_what_a_terminal_would_obey_is_not_printed():
    assert printable("a\x1b[2J\nü") == "a?[2J?ü"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (10**6, "277:46:40")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (31.2, "31 s"),
        (59.6, "1 min 0 s"),
        (252, "4 min 12 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"), [(0.0317, "0.032"), (2.04, "2"), (2.46, "2.5"), (31.4, "31"), (1240, "1,240")]
)
def test_rate(per_second, text):
    assert rate(per_second) == text
