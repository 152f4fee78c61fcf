"""From the network's input frame back to the photo: boxes and keypoints, in eager mode and inside an exported graph."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_to_photo(boxes: Tensor, content: Tensor, photo: Tensor, corner: Tensor, *, inclusive: bool) -> Tensor:
    """Boxes (..., 4) of the input frame -> the photo's pixels, inside the photo, same dtype.

    Args:
        boxes: x0 y0 x1 y1, float.
        content: (2,) height, width of the resized photo in the input.
        photo: (2,) height, width of the photo.
        corner: (2,) top, left of the content.
        inclusive: scale from the first to the last pixel, as a network with `ModelConfig.inclusive` sees a box.
    """
    last = torch.tensor([0, 0, 1, 1] if inclusive else [0, 0, 0, 0], dtype=boxes.dtype, device=boxes.device)
    scale = ((photo - 1) / (content - 1).clamp(min=1) if inclusive else photo / content).to(boxes.dtype)
    moved = (boxes - _xyxy(corner).to(boxes.dtype) - last) * _xyxy(scale) + last
    return torch.minimum(moved.clamp(min=0), _xyxy(photo).to(boxes.dtype))


def keypoints_to_photo(keypoints: Tensor, content: Tensor, photo: Tensor, corner: Tensor) -> Tensor:
    """Keypoints (..., 3) x, y, score of the input frame -> the photo's pixels; arguments as of `boxes_to_photo`."""
    scale = (photo / content).to(keypoints.dtype).flip(0)
    places = (keypoints[..., :2] - corner.flip(0).to(keypoints.dtype)) * scale
    return torch.cat([places, keypoints[..., 2:]], dim=-1)


def _xyxy(sides: Tensor) -> Tensor:
    """(2,) along y and x -> (4,) for x0 y0 x1 y1."""
    return sides.flip(0).repeat(2)
