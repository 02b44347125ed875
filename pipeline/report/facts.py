"""What run.json says about a run, in the words of the page."""

from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.normals.encoding import Convention
from pipeline.redact import shown_uri
from pipeline.words import duration, quantity, rate

STAGE_NAMES = {
    "read": "Read",
    "crop": "Decode, detect, crop",
    "normals": "Normals",
    "head": "Fit, details, maps",
    "write": "Encode and write",
}

AXES = {
    "opengl": "x to the right, y up, z to the viewer",
    "opencv": "x to the right, y down, z away from the viewer",
    "directx": "x to the right, y down, z to the viewer",
}


@dataclass(frozen=True)
class StageTime:
    """Time of one stage, as text."""

    name: str
    time: str
    per_photo: str
    share: float
    """Of the longest stage, 0..1."""


@dataclass(frozen=True)
class RunFacts:
    """What the page says about a run beside its photos and faces."""

    sentence: str
    rate: str
    time_sentence: str
    convention: Convention
    axes: str
    config: str
    stages: list[StageTime]
    facts: list[tuple[str, str]]


def run_facts(run: dict[str, Any]) -> RunFacts:
    """Returns the facts of a run."""
    config, counts, weights = run["config"], run["counts"], run["models"]["weights"]
    convention = config["output"]["convention"]
    seconds, images = run["seconds"], counts["images"]
    source, target = shown_uri(run["input"]), shown_uri(run["output"])
    facts = [
        ("Input", source),
        ("Output", target),
        ("State", run["status"]),
        ("Started", run["started"]),
        ("Engine", run["engine"]),
        ("Weights", f"{weights['name']} ({weights['architecture']}), sha256 {weights['sha256']}"),
        *(("Left out", note) for note in run["notes"]),
        *_duplicates(counts.get("duplicates", 0)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
    ]
    return RunFacts(
        sentence=f"{source} to {target}: {duration(seconds)} with the weights “{weights['name']}”.",
        rate=rate(images / seconds) if seconds and images else "",
        time_sentence=f"{duration(seconds)} from start to end; work adds up over all processes.",
        convention=convention,
        axes=AXES[convention],
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        stages=_stages(counts["stage_seconds"], images),
        facts=facts,
    )


def _duplicates(number: int) -> list[tuple[str, str]]:
    if not number:
        return []
    return [("Duplicates", f"{quantity(number, 'photo')} with the same bytes as an earlier one of the shard")]


def _stages(seconds: dict[str, float], images: int) -> list[StageTime]:
    longest = max(seconds.values(), default=0)
    if not longest or not images:
        return []
    return [
        StageTime(
            name=STAGE_NAMES.get(stage, stage),
            time=duration(spent),
            per_photo=f"{1000 * spent / images:.1f} ms",
            share=spent / longest,
        )
        for stage, spent in seconds.items()
    ]
