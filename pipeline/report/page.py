"""Puts the page together: one HTML file that needs nothing else, not even a network."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.redact import shown_uri
from pipeline.report.facts import RunFacts
from pipeline.report.sheet import Card, ShownPhoto
from pipeline.report.spread import Spread
from pipeline.report.tally import Tally
from pipeline.words import plural, quantity

_HERE = Path(__file__).parent
MOST_TEXT = 600
"""Longest message or URI that the page shows, in characters."""


def render_page(
    run: RunFacts,
    tally: Tally,
    cards: list[Card],
    faceless: list[ShownPhoto],
    alerts: list[str],
    *,
    worst: dict[str, list[Card]],
    spreads: list[Spread],
    seen: int,
    selection: str = "",
    heads: str = "",
    item: str = "photo",
) -> str:
    """Returns the HTML.

    `worst` has faces by the reason they are shown for, `selection` the conditions that all this meets, "" for
    a whole run, `seen` counts the photos that `spreads` and `worst` are of, `heads` is the page of heads
    beside this one, if there is one, and `item` what a record is of.
    """
    word = "in" if item == "photo" else "of"
    problems = sorted(tally.problems.values(), key=lambda problem: (-problem.count, problem.code))
    return render(
        "page.html",
        ["report.css"],
        "relight.js",
        headline=f"{quantity(tally.faces, 'face')} {word} {quantity(tally.photos, item)}",
        item=item,
        items=plural(item),
        run=run,
        tally=tally,
        cards=cards,
        shown=len(cards),
        faceless=faceless,
        problems=problems,
        alerts=alerts,
        worst=worst,
        spreads=spreads,
        seen=seen,
        selection=selection,
        heads=heads,
    )


def render(template: str, styles: list[str], script: str, **values: Any) -> str:
    """Returns the HTML of a template of this folder, with style sheets and a script of it.

    Every text from outside is escaped by the template engine. As a second lock the page's security
    policy lets a browser run only the one script and the one style sheet that carry the right digest,
    and load nothing but data URIs.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = shown_uri
    environment.filters["shortened"] = _shortened
    texts = {
        "style": "".join((_HERE / name).read_text("utf-8") for name in styles),
        "script": (_HERE / script).read_text("utf-8"),
    }
    for name, text in texts.items():
        values |= {name: Markup(text), f"{name}_hash": _digest(text)}
    return environment.get_template(template).render(values)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _digest(text: str) -> str:
    """What the page's security policy calls a script or a style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
