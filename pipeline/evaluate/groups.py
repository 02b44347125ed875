"""Names the groups that a labelled crop belongs to, from what its row says about itself."""

from collections.abc import Mapping
from typing import Any

YAW_BINS = (15, 30, 45, 60)
"""Edges in degrees of |yaw|."""

TONE_NAMES = ("very light", "light", "medium", "brown", "dark", "very dark")
"""Names of the tones 0..11, two tones each, from very light to very dark."""


def groups_of(meta: Mapping[str, Any]) -> list[str]:
    """Returns the groups of a crop, such as `yaw 15-30`, `skin dark`, `light side`.

    Args:
        meta: Understood keys: `yaw` in degrees; `skin_tone` 0..11 or a name; `light`, a name or several.
            Others are passed over.
    """
    found = []
    yaw = meta.get("yaw")
    if isinstance(yaw, int | float):
        found.append(f"yaw {_bin(abs(yaw))}")
    tone = meta.get("skin_tone")
    if isinstance(tone, int | float):
        found.append(f"skin {TONE_NAMES[min(11, max(0, int(tone))) // 2]}")
    elif isinstance(tone, str):
        found.append(f"skin {tone}")
    light = meta.get("light")
    for name in [light] if isinstance(light, str) else light if isinstance(light, list) else []:
        found.append(f"light {name}")
    return found


def disparities(means: Mapping[str, float]) -> dict[str, float]:
    """Returns by kind (yaw, skin, light) the error of the worst group as a multiple of that of the best.

    Args:
        means: Group -> mean error; `all` is passed over.
    """
    by_kind: dict[str, list[float]] = {}
    for group, mean in means.items():
        kind, _, name = group.partition(" ")
        if name:
            by_kind.setdefault(kind, []).append(mean)
    return {kind: max(values) / min(values) for kind, values in by_kind.items() if min(values) > 0}


def order_of(group: str) -> tuple[Any, ...]:
    """Sort key of groups: yaw and skin in their natural order, lights by name."""
    kind, name = group.split(" ", 1)
    if kind == "yaw":
        return (0, int(name.rstrip("+").split("-")[0]), name)
    if kind == "skin":
        return (1, TONE_NAMES.index(name) if name in TONE_NAMES else len(TONE_NAMES), name)
    return (2, 0, name)


def _bin(yaw: float) -> str:
    low = 0
    for high in YAW_BINS:
        if yaw < high:
            return f"{low}-{high}"
        low = high
    return f"{low}+"
