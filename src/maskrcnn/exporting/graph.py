"""What is exported: a module from photos (or resized tensors) and a threshold to plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import FILTERED, keeps_uint8
from maskrcnn.model.build import fused_copy
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.frame import boxes_to_photo, keypoints_to_photo
from maskrcnn.structures import Detections

Outputs = tuple[Tensor, ...]


class TensorGraph(nn.Module):
    """For all sizes: resized, padded images with their sizes in, boxes in the input frame out."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = fused_copy(model).cpu()

    def forward(self, images: Tensor, sizes: Tensor, score_threshold: Tensor) -> Outputs:
        """images (B, C, H, W), sizes (B, 2) int64, score_threshold () -> `outputs`."""
        return outputs(self.model.predict(images, sizes, score_threshold))


class PhotoGraph(nn.Module):
    """For one size: photos of any, but the same, size in, resized inside; boxes in the photo's pixels out."""

    def __init__(self, model: MaskRCNN, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.size = fused_copy(model).cpu(), size

    def forward(self, images: Tensor, score_threshold: Tensor) -> Outputs:
        """images (B, C, h, w), score_threshold () -> `outputs`."""
        resized, content, photo = letterbox(images, self.size, self.model.data)
        found = self.model.predict(resized, content.expand(images.shape[0], 2), score_threshold)
        frames = content, photo, corner_in(self.size, content, self.model.data)
        found.boxes = boxes_to_photo(found.boxes, *frames, inclusive=self.model.config.inclusive)
        if found.keypoints is not None:
            found.keypoints = keypoints_to_photo(found.keypoints, *frames)
        return outputs(found)


def outputs(detections: Detections) -> Outputs:
    """boxes (B, D, 4), scores (B, D), labels (B, D) int64, valid (B, D) bool; masks (B, D, M, M) and keypoints
    (B, D, K, 3) if there are."""
    more = (detections.masks, detections.keypoints)
    found = (detections.boxes, detections.scores, detections.labels, detections.valid)
    return (*found, *(one for one in more if one is not None))


def letterbox(images: Tensor, size: tuple[int, int], data: DataConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Resize photos so that they fit into `size`, as `data` says but no larger, content where `data.pad_place` says.

    Two products with a matrix of bilinear weights, because the matrices can depend on the photo's size without the
    result's shape depending on it. The weights are those of `resize_image`, but not in the fixed-point numbers of
    OpenCV and Pillow: "pillow" is "antialias" here, at times a grey level beside it.

    Args:
        images: (B, C, h, w) uint8 or float32.
        size: (H, W) of the result.

    Returns:
        (B, C, H, W) float32, zeros outside the content; (2,) int64 height and width of the content; of the photo.
    """
    row, column = (torch.arange(images.shape[axis], device=images.device) for axis in (2, 3))
    photo = torch.stack([row.max(), column.max()]) + 1  # as a tensor: a graph's shapes cannot be divided
    content = content_size(photo, size, data)
    top, left = corner_in(size, content, data).unbind()
    down = resize_weights(row, photo[0], content[0], top, size[0], data.interpolation)
    across = resize_weights(column, photo[1], content[1], left, size[1], data.interpolation)
    resized = down @ images.float() @ across.T
    if keeps_uint8(data.interpolation) and data.pixels == "rgb8":
        # Simple scales give many exact halves, which the last bit of a product would round up here and down there.
        resized = (resized + ((0.0 if data.interpolation == "skimage" else 0.5) + 1e-3)).floor()
    return resized, content, photo


def corner_in(size: tuple[int, int], content: Tensor, data: DataConfig) -> Tensor:
    """(2,) int64 top, left: what `corner_of` gives, of a content (2,)."""
    if data.pad_place == "corner":
        return torch.zeros_like(content)
    return (torch.tensor(size, device=content.device) - content) // 2


def content_size(photo: Tensor, size: tuple[int, int], data: DataConfig) -> Tensor:
    """(2,) int64 -> (2,) int64: what `resized_size` gives where it fits into `size`; in whole numbers, or TensorFlow's
    float32."""
    if data.resize == "fixed":
        return torch.tensor([min(data.min_size, size[0]), min(data.max_size, size[1])], device=photo.device)
    low, high = photo.min(), photo.max()
    limits: list[tuple[int | Tensor, Tensor]] = [(size[0], photo[0]), (size[1], photo[1]), (data.max_size, high)]
    if data.resize == "short":
        limits.append((data.min_size, low))
    elif data.resize == "grow":
        limits.append((low.clamp(min=data.min_size), low))
    if data.size_rounding == "tensorflow":
        scale = torch.stack([wanted / side.float() for wanted, side in limits]).amin()
        return (scale * photo.float()).round().to(torch.int64).clamp(min=1)  # half to even
    # Each limit scales by wanted / side; the smallest scale gives the smallest content.
    sizes = [_divided(photo * wanted, side, data.size_rounding) for wanted, side in limits]
    return torch.stack(sizes).amin(dim=0).clamp(min=1)


def _divided(values: Tensor, by: Tensor, rounding: str) -> Tensor:
    """Whole numbers divided and rounded."""
    if rounding == "floor":
        return values // by
    whole = (2 * values + by) // (2 * by)
    if rounding == "nearest":
        return whole
    return whole - ((2 * values + by) % (2 * by) == 0) * (whole % 2)  # half to even


def resize_weights(
    pixels: Tensor, before: Tensor, after: Tensor, start: Tensor, length: int, interpolation: str
) -> Tensor:
    """(length, before) float32: how much of each pixel goes into each resized one, which begin at `start`; the rows of
    the padding are zero."""
    ratio = before.float() / after.float()
    support = ratio.clamp(min=1.0) if interpolation in FILTERED else torch.ones_like(ratio)
    places = torch.arange(length, device=pixels.device) - start
    half = 0.0 if interpolation == "tensorflow" else 0.5  # where the centre of a pixel lies
    centre = (places + half) * ratio
    weights = (1 - (pixels + half - centre[:, None]).abs() / support).clamp(min=0)
    if interpolation != "skimage":  # with it the image is black outside
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return weights * ((places >= 0) & (places < after))[:, None]
