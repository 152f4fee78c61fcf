"""Images of any kind in, `Instances` in their original frame out. Evaluation goes through here too."""

from __future__ import annotations

import contextlib
import itertools
import numbers
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maskrcnn.data.cache import cache_folder
from maskrcnn.data.resize import corner_of, pad_to, padded_size, resize_image, resized_size
from maskrcnn.data.sample import to_image_tensor
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.instances import Instances, Place
from maskrcnn.model.build import fused_copy
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.ahead import prepare_ahead
from maskrcnn.predict.batching import BatchSizes
from maskrcnn.predict.cuda_graphs import Forward, make_network
from maskrcnn.predict.devices import Precision, choose_device, choose_precision
from maskrcnn.predict.exported.model import ExportedModel, is_exported, open_exported
from maskrcnn.predict.film import Capture, open_capture
from maskrcnn.predict.frame import boxes_to_photo, keypoints_to_photo
from maskrcnn.predict.items import Item, Items
from maskrcnn.predict.named import check_one
from maskrcnn.predict.transfer import to_host
from maskrcnn.structures import Detections, Record
from maskrcnn.weights.load import load_weights

if TYPE_CHECKING:
    from maskrcnn.predict.track import Tracking


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image on its way to the network.

    Attributes:
        content: (C, h, w) the resized image, not padded yet.
        size: (height, width), original frame.
        path: the file, when there is one.
        place: of an item of `stream`.
        image: what was read, for drawing, where there is no file of that image alone.
    """

    content: Tensor
    size: tuple[int, int]
    path: str | None = None
    place: Place | None = None
    image: Any = None


class Predictor:
    """A model made ready for prediction.

    Attributes:
        model: a copy with norms folded into convolutions, the model given stays as it was; or an exported file.
        device: where it runs.
        precision: "float32", "bf16" or "fp16"; of an exported file what it was exported with.
        skipped: messages of the files that `stream` could not read.
    """

    def __init__(
        self,
        model: MaskRCNN | ExportedModel,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        *,
        compiled: bool = False,
    ) -> None:
        """Args:
            model: the network with its classes and preprocessing.
            device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps".
            precision: "auto" is bf16 on CUDA and float32 elsewhere; "fp16" is for CUDA alone.
            compiled: through PyTorch's compiler, which takes a minute for each new size of input.

        Raises:
            ConfigError: a device that is not there, an unknown precision; an exported file and `compiled`.
        """
        self.device = choose_device(device)
        self.model: MaskRCNN | ExportedModel
        self.precision: str
        if isinstance(model, ExportedModel):
            if compiled:
                raise ConfigError(f"{model.path} is an exported file; --compiled is for its export", field="compiled")
            if precision not in ("auto", model.info.precision):
                raise ConfigError(f"{model.path} was exported in {model.info.precision}", field="precision")
            self.model, self.precision = model, model.info.precision
            self._network: Forward = model
        else:
            self.precision = choose_precision(precision, self.device)
            self.model = fused_copy(model).to(self.device)
            self._network = make_network(self.model, self.device, self.precision, compiled=compiled)
        self.skipped: list[str] = []
        self._sizes = BatchSizes(self.device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        *,
        compiled: bool = False,
        trust: bool = False,
        **overrides: Any,
    ) -> Predictor:
        """From a run folder (its best checkpoint, else its last), a checkpoint folder, another framework's file, or a
        file that `maskrcnn export` wrote (.onnx, .xml, .pt2), which runs on the CPU unless another device is named.

        Args:
            compiled: see `Predictor`.
            trust: run a compiled `.pt2`, which holds machine code: only of your own making.
            overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

        Raises:
            WeightsError: nothing there, or nothing that we can read.
            ExportError: the package that runs the exported file is not installed.
        """
        if is_exported(path):
            place = choose_device("cpu" if str(device) == "auto" else device)
            return cls(open_exported(path, place, overrides, trust=trust), place, precision, compiled=compiled)
        return cls(load_weights(path, **overrides), device, precision, compiled=compiled)

    def __call__(self, image: Any, score_threshold: float = 0.05) -> Instances:
        """The objects in one image.

        Args:
            image: a path, a record, an array (H, W, 3) uint8 RGB, a PIL image, or a tensor (3, H, W) uint8. A model
                that was trained with `data.pixels` "raw" takes arrays (H, W, C) and tensors (C, H, W) with the numbers
                of its training files, where C is `len(model.config.image_mean)`.
            score_threshold: weaker instances are left out. The model's own `box.score_threshold` comes first.

        Raises:
            DataError: the image cannot be read, or has other channels than the model takes.
        """
        return self.batch([image], score_threshold)[0]

    def batch(self, images: Sequence[Any], score_threshold: float = 0.05, batch_size: int = 8) -> list[Instances]:
        """The objects in each of several images of any size: exactly what each gives alone.

        Every image is padded to its own size and no further; those with the same padded size share a forward pass of
        at most `batch_size`.
        """
        return self.predict_prepared([self.prepare(image) for image in images], score_threshold, batch_size)

    def predict_tiled(
        self,
        image: Any,
        tile: int | None = None,
        overlap: int | None = None,
        *,
        full_image: bool = True,
        score_threshold: float = 0.05,
        batch_size: int | None = None,
    ) -> Instances:
        """The objects in one large image, which the network sees tile by tile; an image no larger than a tile at once.

        Objects that a border between tiles cuts are put together by the pixels that their masks share. The answer has
        RLE and no roi masks. Memory follows the tiles on their way and the number of objects.

        Args:
            image: as for a call; TIFFs and memory-mapped arrays are read part by part.
            tile: side in the image's pixels; None: what the network takes without resizing. Smaller tiles are enlarged.
            overlap: of neighbouring tiles, pixels, at least; None: by the sizes of the objects in a first few tiles.
            full_image: look at the whole image too, made smaller, for objects that do not fit into an overlap.
            score_threshold: weaker instances are left out.
            batch_size: tiles that go through the network together; None: 1 on a CPU, else 8.

        Raises:
            ConfigError: a tile below 32 pixels, or an overlap of more than half of it.
            DataError: the image cannot be read, or has more than 2^32 - 1 pixels.
        """
        from maskrcnn.predict.tiles import Tiling, predict_tiled

        return predict_tiled(self, image, Tiling(tile, overlap, full_image), score_threshold, batch_size)

    def stream(
        self,
        sources: Any,
        batch_size: int | None = None,
        score_threshold: float = 0.05,
        *,
        capture: Capture = open_capture,
    ) -> Iterator[Instances]:
        """The objects in every image of `sources`, in order, decoding ahead while the network works.

        What cannot be read is skipped with a warning and noted in `skipped`. Memory: of the images on their way, a few
        more than two batches, however long the stream.

        Args:
            sources: files, folders, patterns (images and films), addresses (http, https), arrays, PIL images, tensors,
                records, `Window` of a TIFF, numbers of cameras, live addresses (rtsp), "-" for a list of all these on
                stdin, or an iterable of them, in any mix. Each page of a TIFF is an image, unless the model was
                trained with `data.pixels` "raw".
            batch_size: images that go through the network together; None: by the memory of the device, see
                `BatchSizes`. Images of different padded size never share a pass.
            score_threshold: weaker instances are left out.
            capture: opens cameras and live addresses. Of these the newest frame is taken, and none is waited for.

        Raises:
            ConfigError: batch_size below 1; a film or camera without PyAV.
            DataError: at once, when there is nothing at a path.
        """
        items = self.items(sources, capture=capture)
        return (instances for instances, _ in self.stream_items(items, batch_size, score_threshold))

    def track(
        self,
        sources: Any,
        tracking: Tracking | None = None,
        batch_size: int | None = None,
        *,
        capture: Capture = open_capture,
    ) -> Iterator[Instances]:
        """As `stream`, with an object's number in every frame, `Instances.tracks`; see `predict.track.track`.

        Raises:
            ConfigError: as `stream`; settings of `tracking` that cannot be, or no `trackers` library.
            DataError: as `stream`.
        """
        from maskrcnn.predict.track import Tracking, track_items

        tracking = tracking or Tracking()
        items = self.items(sources, capture=capture)
        results = self.stream_items(items, batch_size, tracking.weak_score)
        return (instances for instances, _ in track_items(results, tracking))

    def items(self, sources: Any, **options: Any) -> Items:
        """Everything that `sources` stand for, for `stream_items`. Arguments and errors as of `stream`.

        Args:
            options: `capture`, `done`, `once` and `refresh` of `Items`.
        """
        return Items(sources, self.model.data.pixels, cache_folder() / "downloads", **options)

    def stream_items(
        self, items: Items, batch_size: int | None = None, score_threshold: float = 0.05
    ) -> Iterator[tuple[Instances, Any]]:
        """As `stream`, with what was read beside each answer, as `save_results` takes it: None for a whole file."""
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"{batch_size} must be at least 1", field="batch_size")
        _check_threshold(score_threshold)
        return self._stream(items, 1 if items.live else batch_size, score_threshold)

    def _stream(self, items: Items, batch_size: int | None, score_threshold: float) -> Iterator[tuple[Instances, Any]]:
        self.skipped = []
        window = self._sizes.lookahead(batch_size)
        ahead = 1 if items.live else 2 * window
        with contextlib.closing(prepare_ahead(self.prepare, items, workers=2, ahead=ahead)) as futures:
            prepared = self._readable(futures)
            while chunk := list(itertools.islice(prepared, window)):
                answers = self.predict_prepared(chunk, score_threshold, batch_size)
                yield from zip(answers, [image.image for image in chunk], strict=True)

    def _readable(self, ahead: Iterable[Future[Prepared]]) -> Iterator[Prepared]:
        for future in ahead:
            try:
                yield future.result()
            except DataError as error:
                self.skipped.append(str(error))
                warnings.warn(f"{error}; skipped, {len(self.skipped)} so far", stacklevel=4)

    def prepare(self, image: Any) -> Prepared:
        """Read and resize one image or `Item`, on the CPU; may run in a thread. Raises `DataError`."""
        if isinstance(image, Item):
            return self._prepare_item(image)
        check_one(image)
        tensor = to_image_tensor(image, self.model.data.pixels, len(self.model.config.image_mean))
        size = (tensor.shape[-2], tensor.shape[-1])
        content = resize_image(tensor, self.fit(size)[0], self.model.data.interpolation)
        path = image.path if isinstance(image, Record) else image if isinstance(image, (str, Path)) else None
        return Prepared(content, size, None if path is None else str(path))

    def _prepare_item(self, item: Item) -> Prepared:
        image = item.read()
        with item.named():
            found = self.prepare(image)
        path = item.path or found.path
        return replace(found, path=path, place=item.place, image=image if path is None else None)

    def fit(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """(height, width) of an image -> those of its content in the network's input, and of that input, padded."""
        if isinstance(self.model, ExportedModel):
            return self.model.info.fit(size)
        content = resized_size(*size, self.model.data)
        return content, padded_size(*content, self.model.data)

    def predict_prepared(
        self, images: Sequence[Prepared], score_threshold: float = 0.05, batch_size: int | None = 8
    ) -> list[Instances]:
        """What `batch` does after reading: same-size images together, answers in the order of the images."""
        _check_threshold(score_threshold)
        if isinstance(self.model, ExportedModel):
            batch_size = self.model.info.batch or batch_size
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(self.fit(image.size)[1], []).append(index)
        found: dict[int, Instances] = {}
        for padded, indices in groups.items():
            while indices:
                most = self._sizes.most(padded, batch_size)
                chunk, indices = indices[:most], indices[most:]
                answers = self._forward([images[i] for i in chunk], padded, score_threshold)
                found.update(zip(chunk, answers, strict=True))
        return [found[index] for index in range(len(images))]

    def _forward(self, images: Sequence[Prepared], padded: tuple[int, int], threshold: float) -> list[Instances]:
        try:
            detections = to_host(
                self.raw(
                    torch.stack([pad_to(image.content, padded, self.model.data.pad_place) for image in images]),
                    torch.tensor([tuple(image.content.shape[-2:]) for image in images]),
                )
            )
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
            detections = None  # retry outside of the handler, which still holds the failed pass's tensors
        if detections is None:
            torch.cuda.empty_cache()
            self._sizes.note_shortage(padded, len(images))
            half = len(images) // 2
            return [i for part in (images[:half], images[half:]) for i in self._forward(part, padded, threshold)]
        return [self._instances(detections, row, image, threshold) for row, image in enumerate(images)]

    @torch.inference_mode()
    def raw(self, images: Tensor, sizes: Tensor) -> Detections:
        """The network alone: padded input frame in and out, on the model's device.

        Args:
            images: (B, C, H, W) resized and padded, content where `model.data.pad_place` says.
            sizes: (B, 2) int64, (height, width) of the content.
        """
        return self._network(images, sizes)

    def _instances(self, detections: Detections, row: int, image: Prepared, threshold: float) -> Instances:
        """One row of the padded answer, input frame -> original frame."""
        model, mask = self.model, self.model.config.mask
        size = (image.content.shape[-2], image.content.shape[-1])
        corner = corner_of(size, self.fit(image.size)[1], model.data.pad_place)
        frames = [torch.tensor(pair, dtype=torch.float64) for pair in (size, image.size, corner)]
        boxes = boxes_to_photo(detections.boxes[row].float(), *frames, inclusive=model.config.inclusive)
        keep = detections.valid[row] & (detections.scores[row] >= threshold)
        if mask is not None and mask.paste == "matterport":  # whole pixels, at least one
            boxes = boxes.round()  # half to even
            keep &= (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        keypoints = None
        if detections.keypoints is not None:
            keypoints = keypoints_to_photo(detections.keypoints[row][keep].float(), *frames).numpy()
        return Instances(
            boxes=boxes[keep].numpy(),
            scores=detections.scores[row][keep].float().numpy(),
            labels=detections.labels[row][keep].numpy(),
            classes=model.classes,
            size=image.size,
            roi_masks=None if detections.masks is None else detections.masks[row][keep].float().numpy(),
            category_ids=model.category_ids,
            mask_threshold=mask.threshold if mask else 0.5,
            paste=mask.paste if mask else "exact",
            keypoints=keypoints,
            keypoint_names=model.keypoints.names if model.keypoints and keypoints is not None else (),
            path=image.path,
            place=image.place,
        )


def _check_threshold(score: Any) -> None:
    if not isinstance(score, numbers.Real) or not 0 <= float(score) <= 1:
        raise ConfigError(f"{score!r} must be a number between 0 and 1", field="score_threshold")
