"""Painted things that a few samples share."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.geometry.head_model import NARROW_FACE_VERTICES, SCLERA, FaceModel
from pipeline.synth import accessories, background, hair, skin_map, wrinkles

_KINDS = ("skin", "background", "hair", "accessory")
"""Kinds of props; the order is part of every prop, so append only."""

KEPT = 16
"""Props of each kind that are kept."""


class Props:
    """Painted things that a few samples share: made when first asked for, kept while in use.

    A prop is a function of seed, kind and key alone.
    """

    def __init__(self, model: FaceModel, seed: int, device: str | torch.device = "cpu"):
        self.model = model
        self.seed = seed
        self.device = torch.device(device)
        self.grain = wrinkles.Grain(device)
        neutral = model.neutral.cpu()
        self._landmarks = neutral[model.landmarks.cpu()].numpy()
        eyes = [neutral[ids.cpu()] for ids in model.eyes]
        self.eye_centres = torch.stack([(e.amin(0) + e.amax(0)) / 2 for e in eyes]).to(device)
        names = model.material_names
        self.sclera = [names.index(name) for name in SCLERA]
        self.teeth, self.gums = names.index("M_Teeth"), names.index("M_GumsTongue")
        self.inner = torch.tensor([*self.sclera, self.teeth, self.gums], device=model.material.device)
        self.salon = hair.Salon(model)
        scalp = (model.neutral[:, 1] > 6.0) & (model.neutral[:, 2] < 9.5)
        self.scalp = scalp.nonzero().squeeze(1)
        self.neutral_scalp = model.neutral[self.scalp]
        face = (model.neutral[:NARROW_FACE_VERTICES, 1] > -2.5).nonzero().squeeze(1)
        self.face, self.neutral_face = face, model.neutral[face]
        self.casters = model.triangles[~torch.isin(model.material, self.inner)]
        self._kept: dict[str, OrderedDict[int, Tensor]] = {}

    def skins(self, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Skin maps (M, H, W, C) of some keys, and which of them each key has (B,)."""
        return self._gather("skin", keys, lambda rng: skin_map.paint_map(rng, self._landmarks))

    def backgrounds(self, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Backgrounds (M, H, W, 3) of some keys, and which of them each key has (B,)."""
        return self._gather("background", keys, background.paint_background)

    def accessories(self, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Clouds of surface points (M, P, 12) of some keys, and which of them each key has (B,)."""
        return self._gather("accessory", keys, accessories.paint_accessory)

    def hairdos(self, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Clouds of strand points (M, P, 8) of some keys, and which of them each key has (B,)."""
        return self._gather("hair", keys, self.salon.grow)

    def _gather(
        self, kind: str, keys: Sequence[int], paint: Callable[[np.random.Generator], np.ndarray]
    ) -> tuple[Tensor, Tensor]:
        unique = list(dict.fromkeys(keys))
        kept = self._kept.setdefault(kind, OrderedDict())
        for key in unique:
            if key not in kept:
                rng = np.random.default_rng([self.seed, _KINDS.index(kind), key])
                kept[key] = torch.from_numpy(paint(rng)).half().to(self.device)
            kept.move_to_end(key)
        stacked = torch.stack([kept[key] for key in unique])
        while len(kept) > KEPT:
            kept.popitem(last=False)
        return stacked, torch.tensor([unique.index(key) for key in keys], device=self.device)
