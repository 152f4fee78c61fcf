"""The knobs of the way from the file to the padded input tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """From the file to the padded input tensor."""

    resize: Literal["short", "square", "fixed", "grow"] = "short"
    """short: short side to `min_size`, long side at most `max_size`; square: long side to `max_size`, padded square;
    fixed: height `min_size`, width `max_size`, whatever the shape; grow: short side at least `min_size`, never made
    smaller for it, long side at most `max_size`, padded square (Matterport)."""
    min_size: int = 800
    """Short side in pixels (all peers: 800); fixed: height."""
    max_size: int = 1333
    """Longest long side in pixels (all peers: 1333); fixed: width."""
    interpolation: Literal["antialias", "bilinear", "tensorflow", "opencv", "skimage", "pillow"] = "antialias"
    """antialias: bilinear with a filter on shrinking, rounded to uint8; pillow: the same by Pillow itself (Detectron2),
    slower, another by one grey level in 0.2 % of the values when it shrinks; bilinear: no filter, kept as float
    (torchvision); tensorflow: the same without the shift by half a pixel (TensorFlow's old bilinear); opencv:
    bilinear in its fixed-point numbers, uint8 (MMDetection); skimage: bilinear with black around the image, cut to
    uint8 (Matterport)."""
    size_rounding: Literal["nearest", "floor", "tensorflow", "even"] = "nearest"
    """How a scaled side becomes whole: nearest (Detectron2, MMDetection), floor (torchvision), even: nearest, half to
    even (Matterport), or tensorflow: the same in float32."""
    pad_place: Literal["corner", "centre"] = "corner"
    """Where the image lies in the padded input: at the top left (all others), or in the middle (Matterport)."""
    pad_value: Literal["mean", "black"] = "mean"
    """What it is padded with: 0 after the mean is subtracted (all others), or before (Matterport)."""
    pad_multiple: int = 32
    """Padded sides are multiples of this (P5 has stride 32; all peers: 32); 1, no padding, is possible without a
    pyramid."""
    size_buckets: int = 4
    """At most this many padded sizes in a run; each is one compiled graph."""
    count_buckets: int = 2
    """At most this many padded object counts in a run."""
    horizontal_flip: float = 0.5
    """Probability of mirroring left-right (all peers: 0.5)."""
    vertical_flip: float = 0.0
    """Probability of mirroring top-bottom; 0.5 suits microscopes and satellites."""
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    """Random factor on the size, uniform in log scale; large-scale jitter: 0.1-2.0."""
    crop: float = 0.0
    """Probability of cutting a random window of 50-100 % of each side before resizing."""
    brightness: float = 0.0
    """Brightness factor is drawn from 1 +- this."""
    contrast: float = 0.0
    """Contrast factor is drawn from 1 +- this."""
    saturation: float = 0.0
    """Saturation factor is drawn from 1 +- this."""
    hue: float = 0.0
    """Hue is shifted by at most this part of the colour circle, 0..0.5."""
    rotation: float = 0.0
    """Rotated by an angle drawn from +- this many degrees; boxes are those of the rotated masks. The content keeps
    its size, corners from outside the image get its mean colour."""
    blur: float = 0.0
    """Probability of a Gaussian blur with a sigma of 0.1 to 2 input pixels."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise, drawn from 0 to this, in grey levels of 255; of raw pixels the image's own
    range counts as 255."""
    jpeg: float = 0.0
    """Probability of JPEG artefacts, quality 30 to 95."""
    cutout: float = 0.0
    """Probability of one to three rectangles of the mean colour, 2-10 % of the image each (DeVries 2017)."""
    copy_paste: float = 0.0
    """Probability of pasting a random half of another image's objects in (Ghiasi 2021, simple copy-paste)."""
    mosaic: float = 0.0
    """Probability of a mosaic of four images (Bochkovskiy 2020)."""
    pixels: Literal["rgb8", "raw"] = "rgb8"
    """rgb8: every file becomes 8-bit RGB; raw: channels and depth as in the file, float32 (16 bit, N channels)."""
    mask_size: int = 112
    """Cells per side of the box-local truth masks: 4 times the 28x28 target."""
    min_box_side: float = 1.0
    """After cropping, boxes with a side below this many input pixels are dropped."""
    workers: int = 2
    """Loader processes; 0 loads in the training process."""
