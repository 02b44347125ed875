"""The three passes of cross-modal training, and the mix of them that makes one step.

    image_to_normals     rows with image and normals: image encoder, skips, normal decoder
    image_to_image       rows with an image: image encoder, image decoder
    normals_to_normals   rows with normals: normal encoder, normal decoder, skips off

Because the decoders are shared, the unpaired passes teach the latent space what faces and photos look like
without needing the other half of a pair.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.normals.network import CrossModalNet
from pipeline.samples.batch import Batch, as_float
from pipeline.samples.rows import IMAGE, NORMALS, PAIRED
from pipeline.train import losses
from pipeline.train.config import LossConfig, PassConfig

NEEDS = {"image_to_normals": PAIRED, "image_to_image": IMAGE, "normals_to_normals": NORMALS}
"""Pass -> what a row must hold."""


def passes_of_step(step: int, config: PassConfig) -> list[str]:
    """Returns the passes that step `step` (from 0) takes."""
    every = {name: getattr(config, name) for name in NEEDS}
    return [name for name in NEEDS if every[name] and step % every[name] == 0]


class TrainingStep(nn.Module):
    """Network and losses as one module, so that DDP sees every pass of a step as one forward call."""

    def __init__(self, network: CrossModalNet, config: LossConfig, device: torch.device | str = "cpu"):
        super().__init__()
        self.network = network
        self._config = config
        self._tables = losses.RegionTables(config, device)

    def forward(
        self, batches: Mapping[str, Batch], gradient: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs the passes that have a batch.

        Returns:
            The weighted sum of all terms, and each term, detached, as `PASS/TERM`.
        """
        terms: dict[str, Tensor] = {}
        for name, batch in batches.items():
            found = getattr(self, f"_{name}")(batch)
            terms |= {f"{name}/{term}": value for term, value in found.items()}
        weights = {**self._config.model_dump(), "gradient": self._config.gradient * gradient}
        total = torch.stack([weights[name.split("/")[1]] * value for name, value in terms.items()]).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def _image_to_normals(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        assert batch.normals is not None
        assert batch.regions is not None
        output = self.network.image_to_normals(as_float(batch.image))
        with torch.autocast(batch.image.device.type, enabled=False):
            weights = self._weights(batch)
            terms = losses.normals_terms(output, batch.normals, weights)
            if output.mask_logits is not None:
                labels = batch.regions.long()
                known = self._tables.known[labels] * batch.has_regions[:, None, None]
                terms["mask"] = losses.mask_term(output.mask_logits, self._tables.answer[labels], known)
            if output.log_confidence is not None:
                terms["confidence"] = losses.confidence_term(
                    output.log_confidence, output.normals, batch.normals, weights
                )
        return terms

    def _image_to_image(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None
        image = as_float(batch.image)
        output = self.network.image_to_image(image)
        with torch.autocast(image.device.type, enabled=False):
            return {"image": losses.image_term(output, image)}

    def _normals_to_normals(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.normals is not None
        output = self.network.normals_to_normals(batch.normals)
        with torch.autocast(batch.normals.device.type, enabled=False):
            return losses.normals_terms(output, batch.normals, self._weights(batch))

    def _weights(self, batch: Batch) -> Tensor:
        assert batch.normals is not None
        assert batch.regions is not None
        valid = batch.normals.square().sum(1) > 0.5
        return self._tables.weights[batch.regions.long()] * valid
