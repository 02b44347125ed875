"""The making of a sample from top to bottom: numbers, geometry, looks, photo, labels.

A sample is a function of a seed and an index. All its random numbers come from its own generators, one per
subject, so that it comes out the same (floating-point noise aside) in any batch, worker or device, and a
change of one subject's distribution leaves the others' numbers alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pipeline.config import Section
from pipeline.faces.crop import CropWindow
from pipeline.geometry import head_model as ict
from pipeline.geometry.cameras import Cameras
from pipeline.geometry.head_model import FaceModel, load_face_model
from pipeline.geometry.head_regions import dense_vertices
from pipeline.regions import ANSWER, Region
from pipeline.synth import labels, looks
from pipeline.synth.gbuffer import GBuffer, render_gbuffer
from pipeline.synth.head import DrawnHead, draw_head
from pipeline.synth.loose import Border, draw_border, draw_loose_pose, draw_loose_window, end_photo
from pipeline.synth.view import CameraPose, draw_pose, draw_view, draw_window

_STREAMS = ("kind", "head", "view", "window", "look", "photo", "set")
"""Subjects with random numbers of their own; the order is part of every sample, so append only."""

PROP_SHARE = 8
"""So many consecutive samples share painted skin and hair (with other tints and light)."""


class SampleConfig(Section):
    """How samples are rendered."""

    size: int = Field(default=256, ge=32, le=2048, description="side of the crops in pixels")
    portrait: float = Field(
        default=0.3, ge=0, le=1, description="share of ordinary portraits: frontal, soft light"
    )
    window: Literal["crop", "loose"] = Field(
        default="crop", description="crop: as the product crops; loose: wide, heads at any roll, for points"
    )


@dataclass(frozen=True)
class Parameters:
    """The numbers that make one sample.

    Attributes:
        index: Index of the sample; numbers its camera faults.
        props: Number of the painted skin and hair, which several samples share.
        portrait: An ordinary portrait rather than anything at all.
        head: The head.
        view: The photo that is taken of it.
        window: The part of the photo that is the sample.
        look: Skin, hair, accessories, light, background and camera faults.
        border: Where the photo ends inside the window, if it does.
    """

    index: int
    props: int
    portrait: bool
    head: DrawnHead
    view: CameraPose
    window: CropWindow
    look: looks.Look
    border: Border | None = None


@dataclass(frozen=True)
class RenderedBatch:
    """B rendered samples of S x S pixels, with their labels.

    Attributes:
        image: (B, S, S, 3) uint8 RGB.
        normal: (B, S, S, 3) float32, unit in camera space where something is seen, else 0.
        regions: (B, S, S) uint8, `pipeline.regions.Region`.
        depth: (B, S, S) float32, centimetres along the viewing axis, 0 for nothing.
        landmarks: (B, 68, 2) float32, pixels of the crop.
        dense: (B, 500, 3) float32: pixel x, y of the crop, depth in cm.
        dense_visible: (B, 500) bool: inside the crop, seen by the camera, and not behind an occluder.
        meta: What made each sample, ready for JSON.
    """

    image: Tensor
    normal: Tensor
    regions: Tensor
    depth: Tensor
    landmarks: Tensor
    dense: Tensor
    dense_visible: Tensor
    meta: list[dict[str, Any]]

    @property
    def mask(self) -> Tensor:
        """(B, S, S) bool: the normal is true and meant."""
        return _is_meant(self.regions)


def generator(seed: int, index: int, stream: str) -> np.random.Generator:
    """The random numbers of one subject of one sample: Philox, keyed by seed and index.

    Each stream starts 2**192 blocks after the one before.
    """
    counter = [0, 0, 0, _STREAMS.index(stream)]
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=counter))


class Sampler:
    """Renders samples by index.

    Raises:
        AssetsError: The head model is not there.
    """

    def __init__(self, config: SampleConfig, seed: int, device: str = "cpu", model: str | Path | None = None):
        self.config = config
        self.seed = seed
        self.device = device
        self.model = load_face_model(model, device)
        self.props = looks.Props(self.model, seed, device)
        self._landmarks = _landmark_basis(load_face_model(model))

    def parameters(self, index: int) -> Parameters:
        """Draws the numbers that make one sample, on the CPU and in double precision."""
        draw = {stream: generator(self.seed, index, stream) for stream in _STREAMS}
        portrait = bool(draw["kind"].random() < self.config.portrait)
        head = draw_head(draw["head"], self.model.expression_names, portrait)
        loose = self.config.window == "loose"
        view = draw_view(draw["view"], portrait, draw_loose_pose if loose else draw_pose)
        landmarks = view.project(self.landmarks(head))
        border = None
        if loose:
            window = draw_loose_window(draw["window"], landmarks)
            border = draw_border(draw["window"])
        else:
            window = draw_window(draw["window"], landmarks)
        jaw = self.model.expression_index("jawOpen")
        look = looks.draw(draw["look"], portrait, mouth_open=head.expression[jaw])
        return Parameters(index, index // PROP_SHARE, portrait, head, view, window, look, border)

    def landmarks(self, head: DrawnHead) -> np.ndarray:
        """The 68 landmarks (68, 3) of a head in head space, in double precision."""
        neutral, offsets = self._landmarks
        return (neutral + (head.offsets @ offsets).reshape(-1, 3)) * head.scale

    def render(self, indices: Sequence[int]) -> RenderedBatch:
        """Renders the samples of some indices, as one batch."""
        return self.render_drawn([self.parameters(index) for index in indices])

    @torch.inference_mode()
    def render_drawn(self, drawn: Sequence[Parameters]) -> RenderedBatch:
        """Renders samples whose numbers are drawn, as one batch."""
        with full_precision():
            gbuffer = self.geometry(drawn)
        rendered = looks.render_looks(self.props, gbuffer, [p.look for p in drawn], [p.props for p in drawn])
        image = looks.develop(
            soften_edges(rendered.rgb, gbuffer.depth),
            [p.look for p in drawn],
            [generator(self.seed, p.index, "photo") for p in drawn],
        )
        regions = without_silhouette(rendered.region)
        for i, border in ((i, p.border) for i, p in enumerate(drawn) if p.border):
            image[i] = torch.from_numpy(end_photo(image[i].cpu().numpy(), border))
            regions[i, torch.from_numpy(border.beyond(self.config.size))] = int(Region.OCCLUDER)
        landmarks, _ = labels.project_vertices(gbuffer, self.model.landmarks)
        dense, visible = labels.project_vertices(gbuffer, dense_vertices(self.model))
        return RenderedBatch(
            image=image,
            normal=rendered.normal,
            regions=regions,
            depth=gbuffer.depth,
            landmarks=landmarks[..., :2].contiguous(),
            dense=dense,
            dense_visible=visible & ~_hidden(regions, dense),
            meta=[self._meta(p) for p in drawn],
        )

    def geometry(self, drawn: Sequence[Parameters]) -> GBuffer:
        """Builds, poses and rasterises the heads of some samples."""
        heads = [p.head for p in drawn]
        vertices, normals = pose_heads(self.model, heads)
        jaw = self.model.expression_index("jawOpen")
        return render_gbuffer(
            self.model,
            vertices,
            normals,
            mouth_open=self._tensor([h.expression[jaw] for h in heads]),
            cameras=self._cameras(drawn),
            size=self.config.size,
        )

    def _cameras(self, drawn: Sequence[Parameters]) -> Cameras:
        photo = Cameras(
            rotation=self._tensor([p.view.rotation for p in drawn]),
            translation=self._tensor([p.view.translation for p in drawn]),
            focal=self._tensor([p.view.focal for p in drawn]),
            centre=self._tensor([p.view.centre for p in drawn]),
        )
        left, top, side = self._tensor([(p.window.left, p.window.top, p.window.size) for p in drawn]).unbind(
            1
        )
        return photo.cropped(left, top, side, self.config.size)

    def _tensor(self, values: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)

    def _meta(self, drawn: Parameters) -> dict[str, Any]:
        yaw, pitch, roll = drawn.view.angles()
        window, size = drawn.window, self.config.size
        return {
            "source": "synth",
            "seed": self.seed,
            "index": drawn.index,
            "portrait": drawn.portrait,
            "yaw": round(yaw, 2),
            "pitch": round(pitch, 2),
            "roll": round(roll, 2),
            "distance": round(drawn.view.distance, 2),
            "focal": round(float(drawn.view.focal * size / window.size), 3),
            "centre": [round(float(value), 3) for value in window.to_crop(drawn.view.centre, size)],
            "window": window.size,
            "rotation": np.round(drawn.view.rotation, 6).tolist(),
            "translation": np.round(drawn.view.translation, 4).tolist(),
            "expression_kind": drawn.head.kind,
            "eyes": drawn.head.eyes,
            "identity": np.round(drawn.head.identity, 4).tolist(),
            "scale": np.round(drawn.head.scale, 4).tolist(),
            "expression": np.round(drawn.head.expression, 4).tolist(),
            "gaze": np.round(drawn.head.gaze, 4).tolist(),
            **drawn.look.tags(),
        }


@contextmanager
def full_precision() -> Iterator[None]:
    """Keeps matrix products of float32 exact: the short mantissas of TF32 would move vertices."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def pose_heads(model: FaceModel, heads: Sequence[DrawnHead]) -> tuple[Tensor, Tensor]:
    """Vertices and unit normals (B, V, 3) of heads, in head space."""

    def stack(values: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(model.neutral.device)

    vertices = ict.head_vertices(
        model, stack([h.identity for h in heads]), stack([h.expression for h in heads])
    )
    vertices = vertices * stack([h.scale for h in heads])[:, None]
    vertices, eyes = ict.rotate_eyes(model, vertices, stack([h.gaze for h in heads]))
    return vertices, ict.head_normals(model, vertices, eyes)


@lru_cache(maxsize=4)
def _landmark_basis(model: FaceModel) -> tuple[np.ndarray, np.ndarray]:
    """Neutral landmarks (68, 3) and their offsets (153, 204), double precision."""
    ids = model.landmarks
    offsets = torch.cat([model.identity, model.expression]).reshape(-1, len(model.neutral), 3)[:, ids]
    return model.neutral[ids].double().numpy(), offsets.flatten(1).double().numpy()


def soften_edges(images: Tensor, depth: Tensor, jump: float = 1.0) -> Tensor:
    """Smooths the stairs along the edges of surfaces that one sample per pixel leaves.

    Args:
        images: (B, H, W, C).
        depth: (B, H, W) in cm, 0 where no surface is.
        jump: Neighbours that differ by more centimetres lie on different surfaces.

    Returns:
        (B, H, W, C), the pixels beside such edges averaged with their neighbours by a 3 x 3 tent.
    """
    edge = torch.zeros_like(depth, dtype=torch.bool)
    down = (depth[:, 1:] - depth[:, :-1]).abs() > jump
    right = (depth[:, :, 1:] - depth[:, :, :-1]).abs() > jump
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    edge[:, :, 1:] |= right
    edge[:, :, :-1] |= right
    edge[:, [0, -1]] = False
    edge[:, :, [0, -1]] = False
    pixel = edge.flatten().nonzero().squeeze(1)
    flat = images.reshape(-1, images.shape[-1])
    width = depth.shape[-1]
    offsets = [row * width + column for row in (-1, 0, 1) for column in (-1, 0, 1)]
    tent = flat.new_tensor([1, 2, 1, 2, 4, 2, 1, 2, 1]) / 16
    around = pixel[:, None] + torch.tensor(offsets, device=pixel.device)
    mean = torch.nn.functional.embedding_bag(
        around, flat, per_sample_weights=tent.expand(len(pixel), -1).contiguous(), mode="sum"
    )
    return flat.index_copy(0, pixel, mean).reshape(images.shape)


def without_silhouette(regions: Tensor) -> Tensor:
    """Regions (B, H, W) uint8 of which the pixels beside the background are not sure: the silhouette's."""
    background = (regions == int(Region.BACKGROUND)).float()[:, None]
    beside = torch.nn.functional.max_pool2d(background, 3, 1, 1)[:, 0] > 0
    return regions.masked_fill(beside & _is_meant(regions), int(Region.IGNORE))


def _is_meant(regions: Tensor) -> Tensor:
    return torch.isin(regions, regions.new_tensor([int(region) for region in ANSWER]))


def _hidden(regions: Tensor, points: Tensor) -> Tensor:
    """(B, N) bool: hair or an occluder covers the pixel of a point (B, N, 3)."""
    size = regions.shape[-1]
    pixel = points[..., :2].round().long().clamp(0, size - 1)
    found = regions.flatten(1).gather(1, pixel[..., 1] * size + pixel[..., 0])
    return (found == int(Region.HAIR)) | (found == int(Region.OCCLUDER))
