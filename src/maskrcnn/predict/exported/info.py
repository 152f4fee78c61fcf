"""What travels in an exported file beside its graph: everything needed to use it, as one JSON text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from maskrcnn.config import Config, DataConfig, ModelConfig
from maskrcnn.data.resize import keeps_uint8, padded_size, resized_size
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.structures import KeypointSchema

KEY = "maskrcnn"
"""Under this name the JSON text lies in the file's metadata."""
FORMAT_VERSION = 1
SMALLEST, LARGEST = 64, 4096
"""Sides of images for a graph for all sizes, in pixels: below, the coarsest level is a single cell."""
MOST_IMAGES = 256
"""Images at a time for a graph for any number."""


@dataclass(frozen=True)
class ExportInfo:
    """The description of an exported graph.

    Attributes:
        classes: class names, index = label.
        category_ids: external id of each class.
        model: what the network was built from; thresholds are in here.
        data: how an image becomes the network's input.
        size: (height, width) of the network's input; None: any multiples of `unit` from 64 to 4096, see
            `takes`.
        batch: images at a time; None: any number.
        precision: "float32", "float16" or "int8".
        keypoints: names of the keypoints, where the network finds any.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    model: ModelConfig
    data: DataConfig
    size: tuple[int, int] | None
    batch: int | None
    precision: str = "float32"
    keypoints: KeypointSchema | None = None

    @property
    def takes(self) -> Literal["photo", "tensor"]:
        """What the input `images` is: with a fixed size photos of any one size, resized and padded inside the graph,
        boxes out in the photo's pixels; else tensors, resized and padded already, with their `sizes`, boxes out in
        the input frame.
        """
        return "tensor" if self.size is None else "photo"

    @property
    def outputs(self) -> list[str]:
        """Names of the output tensors, in order."""
        masks, keypoints = self.model.mask is not None, self.keypoints is not None
        return ["boxes", "scores", "labels", "valid", *["masks"] * masks, *["keypoints"] * keypoints]

    @property
    def unit(self) -> int:
        """Sides of the network's input are multiples of this."""
        return side_unit(self.model)

    @property
    def image_dtype(self) -> Literal["uint8", "float32"]:
        """Of the input `images`, 0..255 either way: raw pixels are float, and some ways to resize give floats."""
        resized_outside_to_float = self.takes == "tensor" and not keeps_uint8(self.data.interpolation)
        return "float32" if self.data.pixels == "raw" or resized_outside_to_float else "uint8"

    def check(self) -> None:
        """Raises `ValueError` for what no export has."""
        if len(self.classes) != len(self.category_ids):
            raise ValueError(f"{len(self.classes)} classes, {len(self.category_ids)} category ids")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch {self.batch}")
        if self.size is not None and any(side < 1 or side % self.unit for side in self.size):
            raise ValueError(f"size {self.size[0]} x {self.size[1]}")

    def fit(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """(height, width) of a photo -> what it is resized to, and then padded to, before it goes in as `images`."""
        if self.takes == "photo":
            return size, size
        content = resized_size(*size, self.data)
        height, width = padded_size(*content, self.data)
        return content, (max(height, SMALLEST), max(width, SMALLEST))

    def to_json(self) -> str:
        """One JSON object; readable without this package."""
        config = Config(model=self.model, data=self.data).to_dict()
        value: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "classes": self.classes,
            "category_ids": self.category_ids,
            "takes": self.takes,
            "image_dtype": self.image_dtype,
            "size": self.size,
            "batch": self.batch,
            "precision": self.precision,
            "score_threshold": self.model.box.score_threshold,
            "mask_threshold": self.model.mask.threshold if self.model.mask else None,
            "keypoints": self.keypoints and asdict(self.keypoints),
            "config": {"model": config["model"], "data": config["data"]},
        }
        return json.dumps(value)

    @classmethod
    def from_json(cls, text: str, path: Path) -> ExportInfo:
        """Raises `WeightsError` when the text is not one of ours, or of a later version."""
        try:
            value = json.loads(text)
            version = value["format_version"]
            if version != FORMAT_VERSION:
                raise WeightsError(f"{path}: export format {version}, this maskrcnn reads {FORMAT_VERSION}; upgrade it")
            config = Config.from_dict(value["config"])
            info = cls(
                classes=tuple(map(str, value["classes"])),
                category_ids=tuple(map(int, value["category_ids"])),
                model=config.model,
                data=config.data,
                size=None if value["size"] is None else (int(value["size"][0]), int(value["size"][1])),
                batch=None if value["batch"] is None else int(value["batch"]),
                precision=str(value["precision"]),
                keypoints=_schema(value.get("keypoints")),
            )
            info.check()
            return info
        except (
            *(ValueError, KeyError, IndexError, TypeError, AttributeError),
            *(OverflowError, RecursionError, ConfigError),
        ) as error:
            raise WeightsError(f"{path}: its description is damaged ({error}); export the model again") from error


def _schema(value: dict[str, Any] | None) -> KeypointSchema | None:
    if value is None:
        return None
    pairs = tuple((int(left), int(right)) for left, right in value["flip_pairs"])
    return KeypointSchema(tuple(map(str, value["names"])), pairs)


def side_unit(config: ModelConfig) -> int:
    """P5 has stride 32; without a pyramid any side will do."""
    return 32 if config.fpn is not None else 1
