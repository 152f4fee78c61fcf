"""torchvision's two-stage detectors: their state dicts in, our models out, and back.

Differences are spelled out as config fields (presets "torchvision-r50-fpn" and "torchvision-r50-fpn-v2"): rounded
anchors on a grid stride, RoIAlign without the half pixel, its mask paste, its resize. Its class 0 is background; ours
comes last.
"""

from maskrcnn.weights.torchvision.model import from_torchvision, load_torchvision
from maskrcnn.weights.torchvision.names import rename
from maskrcnn.weights.torchvision.published import load_published
from maskrcnn.weights.torchvision.write import to_torchvision

__all__ = ["from_torchvision", "load_published", "load_torchvision", "rename", "to_torchvision"]
