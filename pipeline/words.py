"""Numbers, sizes and times as people read them."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a question, with a space before it, where one of the known names is much like this one."""
    close = get_close_matches(name, list(known), 1)
    return f" Did you mean {close[0]}?" if close else ""


def quantity(count: int, noun: str) -> str:
    """Returns a count with its noun: 1 photo, 1,000 photos, 2 people."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Returns the plural of a noun: photos, people."""
    return "people" if noun == "person" else f"{noun}s"


def size_text(size: float) -> str:
    """Returns a number of bytes as MB or GB."""
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def printable(text: str) -> str:
    """Returns a text without what a terminal would obey: names and messages come from outside."""
    return "".join(character if character.isprintable() else "?" for character in text)


def clock(seconds: float) -> str:
    """Returns a time as a clock shows it, in hours, minutes and seconds: 4:10 or 277:46:40."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def duration(seconds: float) -> str:
    """Returns a time as people write it: 0.4 s, 31 s, 4 min 12 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rate(per_second: float) -> str:
    """Returns a rate with two digits or more: 0.032, 2.5, 31, 1,240."""
    if per_second >= 10:
        return f"{per_second:,.0f}"
    return f"{per_second:.2g}"
