"""Loss terms of the trainer, each a mean over the pixels that count, in float32.

    cosine      1 - n.t                                          direction of the normals
    chord       |n - t|                                          direction; does not fade out for small errors
    gradient    L1 of the differences between pixels 1 and 2 apart, of n against t: folds, lids, pores
    unit        | |raw| - 1 |                                    keeps the raw output well scaled
    mask        binary cross entropy of the answer's mask        where regions are labelled
    confidence  negative log likelihood of the angle under a von Mises-Fisher distribution of the predicted
                concentration; the normals are detached, so the term calibrates and does not disturb
    image       L1 of the reconstructed image

The mix of cosine, chord and gradient was found on rendered faces; a confidence by likelihood follows
G. Bae, I. Budvytis, R. Cipolla, "Estimating and Exploiting the Aleatoric Uncertainty in Surface Normal
Estimation", ICCV 2021 (arXiv 2109.09881), with another distribution.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.normals.network import NormalsOutput
from pipeline.regions import ANSWER, Region
from pipeline.train.config import LossConfig

LOG_CONCENTRATION = (-3.0, 7.0)
"""Range of the predicted log concentration: from no idea to about 1.7 degrees."""


class RegionTables:
    """Look-up tables from region label to loss weight and to mask target.

    Attributes:
        weights: (256,) float32, the weight of a pixel's normal.
        answer: (256,) float32, 1 where an answer is meant.
        known: (256,) float32, 0 for pixels that the mask loss passes over.
    """

    def __init__(self, config: LossConfig, device: torch.device | str = "cpu"):
        self.weights = torch.zeros(256, device=device)
        for region, weight in (
            (Region.SKIN, config.skin),
            (Region.EYE, config.eye),
            (Region.MOUTH, config.mouth),
            (Region.NECK, config.neck),
            (Region.HAIR, config.hair),
        ):
            self.weights[region] = weight
        self.answer = torch.zeros(256, device=device)
        self.answer[[int(region) for region in ANSWER]] = 1
        self.known = torch.ones(256, device=device)
        self.known[Region.IGNORE] = 0


def normals_terms(output: NormalsOutput, target: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Terms of a predicted normal map.

    Args:
        output: The network's output.
        target: (B, 3, H, W) unit normals, zero where there is no true normal.
        weights: (B, H, W) >= 0; pixels without true normal must have 0.

    Returns:
        Scalars `cosine`, `chord`, `gradient`, `unit`; 0 where no pixel counts.
    """
    normals = output.normals
    total = weights.sum().clamp_min(1e-6)
    difference = normals - target
    squared = difference.square().sum(1)
    length = torch.linalg.vector_norm(output.raw.float(), dim=1)
    return {
        # For unit vectors 1 - n.t = |n - t|^2 / 2, which loses no digits at small angles.
        "cosine": (0.5 * squared * weights).sum() / total,
        "chord": ((squared + 1e-6).sqrt() * weights).sum() / total,
        "gradient": gradient_term(difference, weights),
        "unit": ((length - 1).abs() * weights).sum() / total,
    }


def gradient_term(difference: Tensor, weights: Tensor) -> Tensor:
    """L1 of the differences between pixels 1 and 2 apart, in x and in y.

    Args:
        difference: (B, 3, H, W) prediction minus target; taking differences is linear, so this is enough.
        weights: (B, H, W); a pair of pixels counts with the smaller of its two weights.

    Returns:
        Scalar: mean over counted pairs of the sum of absolute components, averaged over the four shifts.
    """
    terms = []
    for step in (1, 2):
        for along_x in (True, False):
            if along_x:
                change = difference[..., step:] - difference[..., :-step]
                weight = torch.minimum(weights[..., step:], weights[..., :-step])
            else:
                change = difference[:, :, step:] - difference[:, :, :-step]
                weight = torch.minimum(weights[:, step:], weights[:, :-step])
            terms.append((change.abs().sum(1) * weight).sum() / weight.sum().clamp_min(1e-6))
    return torch.stack(terms).mean()


def mask_term(logits: Tensor, answer: Tensor, known: Tensor) -> Tensor:
    """Binary cross entropy of the mask.

    Args:
        logits: (B, 1, H, W).
        answer: (B, H, W), 1 where an answer is meant.
        known: (B, H, W), 0 where the truth is not known.
    """
    losses = F.binary_cross_entropy_with_logits(logits[:, 0].float(), answer, reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1e-6)


def confidence_term(log_confidence: Tensor, normals: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Negative log likelihood of the truth under von Mises-Fisher distributions around the prediction.

    With concentration k the density at angle a is k / (4 pi sinh k) exp(k cos a); up to a constant its
    negative logarithm is k (1 - cos a) - log k + log(1 - exp(-2 k)).

    Args:
        log_confidence: (B, 1, H, W), log k; clamped to `LOG_CONCENTRATION`.
        normals: (B, 3, H, W) predicted unit normals; detached.
        target: (B, 3, H, W) unit normals.
        weights: (B, H, W).
    """
    log_k = log_confidence[:, 0].float().clamp(*LOG_CONCENTRATION)
    k = log_k.exp()
    cosine_loss = 0.5 * (normals.detach() - target).square().sum(1)
    losses = k * cosine_loss - log_k + torch.log1p(-torch.exp(-2 * k))
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def image_term(output: Tensor, image: Tensor) -> Tensor:
    """L1 of a reconstructed image (B, 3, H, W) in 0..1."""
    return (output.float() - image).abs().mean()
