"""What is exported: a module from photos (or resized tensors) and a threshold to five plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskrcnn.config import DataConfig
from maskrcnn.model.build import fused_copy
from maskrcnn.model.mask_rcnn import MaskRCNN
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
        detections = self.model.predict(resized, content.expand(images.shape[0], 2), score_threshold)
        scale = (photo / content).flip(0).repeat(2)  # x, y, x, y
        limit = photo.flip(0).repeat(2).to(detections.boxes.dtype)
        detections.boxes = torch.minimum(detections.boxes * scale, limit)
        return outputs(detections)


def outputs(detections: Detections) -> Outputs:
    """boxes (B, D, 4), scores (B, D), labels (B, D) int64, valid (B, D) bool, and masks (B, D, M, M) if there are."""
    found = (detections.boxes, detections.scores, detections.labels, detections.valid)
    return found if detections.masks is None else (*found, detections.masks)


def output_names(model: MaskRCNN) -> list[str]:
    """Of the tensors of `outputs`."""
    return ["boxes", "scores", "labels", "valid", *(["masks"] if model.mask_head is not None else [])]


def letterbox(images: Tensor, size: tuple[int, int], data: DataConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Resize photos so that they fit into `size`, as `data` says but no larger, content at the top left.

    Two products with a matrix of bilinear weights, because the matrices can depend on the photo's size without the
    result's shape depending on it. The weights are those of `resize_image`.

    Args:
        images: (B, C, h, w) uint8 or float32.
        size: (H, W) of the result.

    Returns:
        (B, C, H, W) float32, zeros outside the content; (2,) int64 height and width of the content; of the photo.
    """
    row, column = (torch.arange(images.shape[axis], device=images.device) for axis in (2, 3))
    photo = torch.stack([row.max(), column.max()]) + 1  # as a tensor: a graph's shapes cannot be divided
    content = content_size(photo, size, data)
    down = resize_weights(row, photo[0], content[0], size[0], data.interpolation)
    across = resize_weights(column, photo[1], content[1], size[1], data.interpolation)
    resized = down @ images.float() @ across.T
    if data.interpolation == "antialias" and data.pixels == "rgb8":
        # Simple scales give many exact halves, which the last bit of a product would round up here and down there.
        resized = (resized + (0.5 + 1e-3)).floor()
    return resized, content, photo


def content_size(photo: Tensor, size: tuple[int, int], data: DataConfig) -> Tensor:
    """(2,) int64 -> (2,) int64: what `resized_size` gives where it fits into `size`; in whole numbers, or TensorFlow's
    float32."""
    if data.resize == "fixed":
        return torch.tensor([min(data.min_size, size[0]), min(data.max_size, size[1])], device=photo.device)
    low, high = photo.min(), photo.max()
    limits = [(size[0], photo[0]), (size[1], photo[1]), (data.max_size, high)]
    if data.resize == "short":
        limits.append((data.min_size, low))
    if data.size_rounding == "tensorflow":
        scale = torch.stack([float(wanted) / side.float() for wanted, side in limits]).amin()
        return (scale * photo.float()).round().to(torch.int64).clamp(min=1)  # half to even
    nearest = data.size_rounding == "nearest"
    # Each limit scales by wanted / side; the smallest scale gives the smallest content.
    sizes = [
        (2 * photo * wanted + side) // (2 * side) if nearest else photo * wanted // side for wanted, side in limits
    ]
    return torch.stack(sizes).amin(dim=0).clamp(min=1)


def resize_weights(pixels: Tensor, before: Tensor, after: Tensor, length: int, interpolation: str) -> Tensor:
    """(length, before) float32: how much of each pixel goes into each resized one; rows from `after` on are zero."""
    ratio = before.float() / after.float()
    support = ratio.clamp(min=1.0) if interpolation == "antialias" else torch.ones_like(ratio)
    places = torch.arange(length, device=pixels.device)
    half = 0.0 if interpolation == "tensorflow" else 0.5  # where the centre of a pixel lies
    centre = (places + half) * ratio
    weights = (1 - (pixels + half - centre[:, None]).abs() / support).clamp(min=0)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return weights * (places < after)[:, None]
