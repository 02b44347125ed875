"""Clothes and head coverings: parts of the head's own surface, told by their place on the neutral head.

80 % wear a collar of one of several heights, 6 % a knitted cap, 4 % a hood or head scarf, 3 % of those with
a closed mouth a face mask.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.pixels import srgb_to_linear

NONE = 99.0
"""Rim of a cap or width of a hood that is not worn."""


MASK_MOUTH = 0.1
"""Weight of the open jaw up to which a face mask is worn: painted on the skin, it would have a hole where the
mouth stands open."""


@dataclass(frozen=True)
class Outfit:
    """Clothes of one sample; heights in cm on the neutral head, colours linear.

    Attributes:
        collar: Height of the collar's front; -99 for none.
        collar_slope: How much lower it is in front than at the sides.
        cap: Height of a cap's rim at the forehead; 99 for none.
        hood: Width of a hood's opening; 99 for none.
        mask: 1 for a face mask.
        colour: (3,) of collar and hood.
        second: (3,) of cap and mask, and of stripes.
        stripes: Stripes per cm; 0 for none.
    """

    collar: float
    collar_slope: float
    cap: float
    hood: float
    mask: float
    colour: np.ndarray
    second: np.ndarray
    stripes: float


def draw_outfit(rng: np.random.Generator, mouth_open: float = 0.0) -> Outfit:
    """Draws clothes; `mouth_open` is the model's weight of the open jaw."""
    dressed = rng.random() < 0.8
    head = rng.random()
    return Outfit(
        collar=float(rng.uniform(-13.5, -9.0)) if dressed else -99.0,
        collar_slope=float(rng.uniform(0, 0.6)),
        cap=float(rng.uniform(7.5, 11)) if head < 0.06 else NONE,
        hood=float(rng.uniform(6.8, 8.2)) if 0.06 < head < 0.10 else NONE,
        mask=1.0 if rng.random() < 0.03 and mouth_open <= MASK_MOUTH else 0.0,
        colour=cloth_colour(rng),
        second=cloth_colour(rng) if rng.random() < 0.5 else srgb_to_linear(_MASKS[rng.integers(4)]),
        stripes=float(rng.uniform(0.3, 2.0)) if rng.random() < 0.2 else 0.0,
    )


_MASKS = np.array([(235, 236, 236), (150, 190, 215), (24, 24, 27), (120, 170, 165)], np.float32)


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """Linear colour of a cloth, half of them nearly grey."""
    grey = rng.uniform(10, 240)
    return srgb_to_linear(np.clip(grey + rng.normal(0, 45 if rng.random() < 0.5 else 8, 3), 5, 245))


def dress(rest: Tensor, numbers: dict[str, Tensor], of: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the clothed points of heads.

    Args:
        rest: (N, 3), position on the neutral head.
        numbers: Stacked `Outfit` numbers.
        of: (N,) sample of every point.

    Returns:
        Indices of the clothed points (K,), and their colours (K, 3).
    """
    # Only a few samples wear anything above the neck.
    special = (numbers["cap"] < NONE) | (numbers["hood"] < NONE) | (numbers["mask"] > 0)
    places = ((rest[:, 1] < -6.5) | special[of]).nonzero().squeeze(1)
    hidden, colour = _cloth(rest[places], numbers, of[places])
    return places[hidden], colour[hidden]


def _cloth(rest: Tensor, numbers: dict[str, Tensor], of: Tensor) -> tuple[Tensor, Tensor]:
    x, y, z = rest.unbind(1)
    beside = x.abs()
    collar = y < numbers["collar"][of] + numbers["collar_slope"][of] * (beside - 3).clamp(min=0, max=6)
    collar = collar | ((numbers["collar"][of] > -50) & (y < -14.5))
    back = ((8.0 - z) / 8.0).clamp(0, 1.4)
    cap = y > numbers["cap"][of] - 4.0 * back
    radius = ((x / 1.0).square() + ((y - 1.5) / 1.35).square()).sqrt()
    hood = (radius > numbers["hood"][of]) | ((numbers["hood"][of] < NONE) & (z < 3.0))
    mask = numbers["mask"][of] > 0
    mask = mask & (y < 1.2 - 0.1 * beside.square() * 0.3) & (y > -8.5) & (z > 3.0) & (y > -11 + 0.5 * beside)
    wave = torch.sin(6.2832 * numbers["stripes"][of] * (y + 0.15 * beside)) > 0.2
    first, second = numbers["colour"][of], numbers["second"][of]
    striped = torch.where((wave & (numbers["stripes"][of] > 0))[:, None], second, first)
    colour = torch.where((cap | mask)[:, None], second, striped)
    return collar | cap | hood | mask, colour
