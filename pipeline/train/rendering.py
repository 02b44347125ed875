"""Training batches rendered as training goes: no sample is seen twice, nothing is stored.

For GPUs; the renderer runs on the device of the training.
"""

import numpy as np
import torch

from pipeline.geometry.crop_camera import crop_camera
from pipeline.samples.batch import Batch
from pipeline.synth.sample import SampleConfig, Sampler
from pipeline.train.batches import BatchStream, WorkerShare


def rendered_batches(
    *, seed: int, size: int, batch_size: int, device: torch.device, position: int, share: WorkerShare
) -> BatchStream:
    """Yields (position behind the batch, batch) without end, like `PassStream.batches`.

    Position p is sample `p * world + rank` of the seed: workers never share one, and a run
    that goes on renders what it would have rendered.

    Raises:
        AssetsError: The head model is not there.
    """
    sampler = Sampler(SampleConfig(size=size), seed, str(device))
    while True:
        samples = sampler.render([(position + i) * share.world + share.rank for i in range(batch_size)])
        position += batch_size
        turns = np.stack([crop_camera(meta["focal"], meta["centre"], size) for meta in samples.meta])
        # As in stored rows: nothing where no answer is meant, and in the space of the crop camera.
        normals = torch.einsum(
            "bij,bhwj->bihw",
            torch.from_numpy(turns.astype(np.float32)).to(device),
            samples.normal * samples.mask[..., None],
        )
        # Tensors made in inference mode cannot take part in training; clones can.
        yield (
            position,
            Batch(
                image=samples.image.clone().permute(0, 3, 1, 2),
                normals=normals.clone(),
                regions=samples.regions.clone(),
                has_regions=torch.ones(batch_size, dtype=torch.bool, device=device),
            ),
        )
