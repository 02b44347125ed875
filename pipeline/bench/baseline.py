"""The baseline: the paper's way through the same photos, as the benchmark's own loop.

"Cross-modal Deep Face Normals" (Abrevaya et al., CVPR 2020) as its authors published it: one photo at a
time, the HOG detector over the full-resolution grey photo, the first face found, the crop and its mask
written and read back as JPEG, the paper's whole network (image encoder, normal decoder and image decoder)
in fp32 on a batch of one, the normals written as JPEG. torch uses as many threads as it likes. Its
scripts started anew for every photo; that cost is left out here.

The network has fresh weights: speed does not depend on them.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import dlib
import numpy as np
import torch

from pipeline.bench.timing import Rate
from pipeline.errors import InputError
from pipeline.faces.crop import CROP_SIZE, hull_mask, inner_window
from pipeline.faces.landmarks import model_file
from pipeline.normals.architectures import build_network
from pipeline.normals.network import CrossModalNet


def measure_baseline(photos: Sequence[Path], folder: Path) -> tuple[Rate, int]:
    """Takes photos the paper's way.

    Returns:
        The rate, and in how many photos a face was found.
    """
    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))
    network = build_network("resnet_unet").eval()
    paper_way(photos[0], folder, detector, predictor, network)
    start = time.perf_counter()
    found = sum(paper_way(photo, folder, detector, predictor, network) for photo in photos)
    seconds = time.perf_counter() - start
    return Rate("baseline", len(photos), (seconds,)), found


@torch.inference_mode()
def paper_way(
    photo: Path,
    folder: Path,
    detector: dlib.fhog_object_detector,
    predictor: dlib.shape_predictor,
    network: CrossModalNet,
) -> bool:
    """Takes one photo through; returns whether a face was found."""
    image = _read(photo)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    boxes = detector(grey, 0)
    if not boxes:
        return False
    landmarks = np.array([(point.x, point.y) for point in predictor(grey, boxes[0]).parts()])
    window = inner_window(landmarks, width, height)
    crop_file, mask_file = folder / "crop.jpg", folder / "mask.jpg"
    cv2.imwrite(str(crop_file), cv2.resize(window.cut(image), (CROP_SIZE, CROP_SIZE)))
    cv2.imwrite(str(mask_file), hull_mask(landmarks, window, width, height))

    crop = cv2.cvtColor(_read(crop_file), cv2.COLOR_BGR2RGB)
    batch = torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255
    latent, skips = network.encode_image(batch)
    raw = network.decode_normals(latent, skips).raw
    network.decode_image(latent)
    normals = (raw / raw.norm(dim=1, keepdim=True))[0].permute(1, 2, 0).numpy()
    pixels = np.rint(127.5 * (normals + 1)).clip(0, 255).astype(np.uint8)
    return cv2.imwrite(str(folder / "normals.jpg"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise InputError(f"OpenCV cannot read {path}; the baseline needs photos that it reads.")
    return image
