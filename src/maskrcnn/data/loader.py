"""Records in, padded `Batch`es out, decoded in worker processes.

What is loaded in which order is a pure function of (seed, epoch), and each image's augmentation of (seed, epoch,
index): the number of workers and of ranks, and where a run was interrupted, change nothing.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from maskrcnn.config import DataConfig
from maskrcnn.data.buckets import Group, Plan, plan_shapes, sample_key, training_order
from maskrcnn.data.resize import corner_of, pad_to
from maskrcnn.data.sample import load_record, usual_channels
from maskrcnn.data.transforms import Objects, augment
from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError, MaskRCNNError
from maskrcnn.structures import Batch, Record, Targets

T = TypeVar("T")

MAX_BROKEN = 0.1  # part of the images that may be unreadable before training stops


class Loader:
    """Batches of a data set for one rank.

    Args:
        dataset: the images; every rank is given the same.
        data: sizes, augmentation, buckets, worker processes.
        batch_size: images an optimiser step, over all ranks and micro-batches together.
        seed: of order, augmentation and `Targets.keys`.
        training: augment; else images as they are.
        accumulate: micro-batches a step; all of one step have the same padded shape on all ranks.
        rank, world_size: this process and how many there are.
        pin_memory: None: where there is CUDA.

    Attributes:
        plan: the padded shapes.
        waited: seconds that the training loop has waited for batches; the rest of the time the loader was ahead.
        skipped: image -> reason of those that could not be read; another image takes their place. The image is its
            path, and its id where the path alone does not tell.

    Raises:
        DataError: nothing to load, or some images have masks and others none.
        ConfigError: the batch cannot be shared out evenly.
    """

    def __init__(
        self,
        dataset: Dataset,
        data: DataConfig,
        *,
        batch_size: int,
        seed: int = 0,
        training: bool = False,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool | None = None,
    ) -> None:
        if not len(dataset):
            raise DataError("the data set has no images", path=dataset.name or None)
        if batch_size % (accumulate * world_size):
            raise ConfigError(
                f"{batch_size} images a step cannot be shared out over {accumulate} micro-batches on {world_size} "
                f"processes; give a multiple of {accumulate * world_size}",
                field="train.batch_size",
            )
        self.plan = plan_shapes(dataset.records, data, training=training)
        self.skipped: dict[str, str] = {}
        self.waited = 0.0
        self._data, self._batch_size, self._seed = data, batch_size, seed
        self._accumulate, self._rank, self._world_size = accumulate, rank, world_size
        self._images = len(dataset)
        self._pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._source = _Source(dataset, data, self.plan, training)
        self._jobs: list[_Job] = []

    def __len__(self) -> int:
        """Optimiser steps an epoch."""
        return -(-self._images // self._batch_size)

    def steps(self, epoch: int, start_step: int = 0) -> Iterator[list[Batch]]:
        """This rank's `accumulate` micro-batches for each optimiser step of an epoch.

        From `start_step` on; what comes before is not loaded. An image that cannot be read is replaced.

        Raises:
            DataError: more than a tenth of the images cannot be read.
        """
        groups = training_order(self.plan, self._batch_size, self._seed, epoch)[start_step:]
        loaded = self._load([job for group in groups for job in self._micro_batches(group, epoch)])
        for _ in groups:
            began = time.perf_counter()
            step = [next(loaded) for _ in range(self._accumulate)]
            self.waited += time.perf_counter() - began
            yield step

    def _micro_batches(self, group: Group, epoch: int) -> list[_Job]:
        """Accumulation cuts the global batch first, ranks cut the pieces: all ranks together see what one would."""
        side = self._batch_size // (self._accumulate * self._world_size)
        starts = [(turn * self._world_size + self._rank) * side for turn in range(self._accumulate)]
        pieces = [replace(group, records=group.records[start : start + side]) for start in starts]
        return [self._job(piece, epoch) for piece in pieces]

    def _job(self, group: Group, epoch: int) -> _Job:
        return _Job(group, tuple(sample_key(self._seed, epoch, index) for index in group.records))

    def _load(self, jobs: list[_Job]) -> Iterator[Batch]:
        self._jobs[:] = jobs
        for loaded in self._workers:
            for image, reason in loaded.skipped.items():
                self._skip(image, reason)
            if isinstance(loaded.batch, MaskRCNNError):
                raise loaded.batch
            yield loaded.batch

    def _skip(self, image: str, reason: str) -> None:
        if image in self.skipped:
            return
        self.skipped[image] = reason
        if len(self.skipped) > MAX_BROKEN * self._images:
            raise DataError(
                f"{len(self.skipped)} of {self._images} images cannot be used, more than one in ten; the last one: "
                f"{reason}; mend or remove them",
                path=image,
            )
        warnings.warn(f"{image}: {reason}: another image takes its place ({len(self.skipped)} so far)", stacklevel=4)

    @cached_property
    def _workers(self) -> torch_data.DataLoader:
        """Made on first use; the processes then live as long as the loader."""
        return torch_data.DataLoader(
            self._source,
            batch_size=None,
            sampler=self._jobs,  # any iterable of what __getitem__ takes
            num_workers=self._data.workers,
            persistent_workers=self._data.workers > 0,
            pin_memory=self._pin_memory,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # the loader's own, or every epoch would advance the global one
        )


class _Job(NamedTuple):
    """One micro-batch to load, and each record's source of random numbers."""

    group: Group
    keys: tuple[int, ...]


class _Loaded(NamedTuple):
    """What a worker sends back. An error travels as a value: torch would rebuild it from its text alone."""

    batch: Batch | MaskRCNNError
    skipped: dict[str, str]


class _Sample(NamedTuple):
    image: Tensor
    objects: Objects
    record: Record
    key: int


class _Source(torch_data.Dataset):
    """Runs in the workers: `_Job` -> `_Loaded`."""

    def __init__(self, dataset: Dataset, data: DataConfig, plan: Plan, training: bool) -> None:
        self.records, self.data, self.plan = dataset.records, data, plan
        self.training = training
        self.channels = usual_channels(dataset.records) if data.pixels == "raw" else None
        self.points = len(dataset.keypoints.names) if dataset.keypoints else None
        self.flip_pairs = dataset.keypoints.flip_pairs if dataset.keypoints else ()
        self.mask_size = data.mask_size if _have_masks(dataset) else 0
        if training and data.copy_paste and not self.mask_size and plan.objects.any():
            raise ConfigError(
                "pasting needs masks, but the data set has boxes only; set it to 0", field="data.copy_paste"
            )

    def __getitem__(self, job: _Job) -> _Loaded:
        skipped: dict[str, str] = {}
        samples = []
        for index, key in zip(job.group.records, job.keys, strict=True):
            try:
                samples.append(self._readable(index, key, job.group.count, skipped))
            except MaskRCNNError as error:
                return _Loaded(error, skipped)
        return _Loaded(self._collate(samples, job.group), skipped)

    def _readable(self, index: int, key: int, count: int, skipped: dict[str, str]) -> _Sample:
        """The sample, or the next one of the same bucket that can be read and has no more objects."""
        first = index
        while True:
            record = self.records[index]
            try:
                return self._sample(index, record, key, skipped)
            except DataError as error:
                _note(record, error, skipped)
            index = self._next(index, count)
            if index == first:
                raise DataError("neither this image nor one like it can be read", path=record.path)

    def _next(self, index: int, count: int) -> int:
        bucket = self.plan.size_of[index]
        while True:
            index = (index + 1) % len(self.records)
            if self.plan.size_of[index] == bucket and self.plan.objects[index] <= count:
                return index

    def _sample(self, index: int, record: Record, key: int, skipped: dict[str, str]) -> _Sample:
        """Canvas and count are the record's own, not the batch's: whom it shares a batch with does not change it."""
        image, objects = augment(
            self._pixels(record),
            record,
            self.data,
            key if self.training else None,
            self.plan.sizes[self.plan.size_of[index]],
            flip_pairs=self.flip_pairs,
            others=_Others(self, skipped),
            most=int(self.plan.objects[index]),
        )
        return _Sample(image, objects, record, key)

    def _pixels(self, record: Record) -> Tensor:
        """(C, H, W), of the size that the annotations are for. Raises `DataError`."""
        image = load_record(record, self.data.pixels, self.channels)
        if tuple(image.shape[-2:]) != record.size:
            raise DataError(
                f"image is {image.shape[-1]} x {image.shape[-2]}, but its annotations are for "
                f"{record.width} x {record.height}; mend one of them",
                path=record.path,
                image=record.image_id,
            )
        return image

    def _collate(self, samples: Sequence[_Sample], group: Group) -> Batch:
        place = self.data.pad_place
        contents = [(sample.image.shape[-2], sample.image.shape[-1]) for sample in samples]
        corners = [corner_of(content, group.size, place) for content in contents]
        truth = [
            sample.objects.shifted(*corner) if any(corner) else sample.objects
            for sample, corner in zip(samples, corners, strict=True)
        ]
        return Batch(
            images=torch.stack([pad_to(sample.image, group.size, place) for sample in samples]),
            sizes=torch.tensor(contents, dtype=torch.int64),
            targets=self._targets(truth, [sample.key for sample in samples], group.count),
            image_ids=tuple(sample.record.image_id for sample in samples),
            paths=tuple(str(sample.record.path) for sample in samples),
            original_sizes=tuple(sample.record.size for sample in samples),
        )

    def _targets(self, truth: Sequence[Objects], keys: Sequence[int], count: int) -> Targets:
        """Padded to `count` objects."""
        batch, cells = len(truth), self.mask_size
        targets = Targets(
            boxes=torch.zeros((batch, count, 4)),
            labels=torch.zeros((batch, count), dtype=torch.int64),
            masks=torch.zeros((batch, count, cells, cells), dtype=torch.uint8),
            valid=torch.zeros((batch, count), dtype=torch.bool),
            crowd=torch.zeros((batch, count), dtype=torch.bool),
            keys=torch.tensor(keys, dtype=torch.int64),
            keypoints=None if self.points is None else torch.zeros((batch, count, self.points, 3)),
        )
        for b, objects in enumerate(truth):
            if not len(objects):
                continue
            n = len(objects)
            crowd = torch.from_numpy(objects.crowd)
            targets.boxes[b, :n] = torch.from_numpy(objects.boxes)
            targets.labels[b, :n] = torch.from_numpy(objects.labels)
            targets.crowd[b, :n], targets.valid[b, :n] = crowd, ~crowd
            if cells:
                targets.masks[b, :n] = torch.from_numpy(objects.masks)
            if targets.keypoints is not None and objects.keypoints is not None:
                targets.keypoints[b, :n] = torch.from_numpy(objects.keypoints)
        return targets


class _Others(NamedTuple):
    """Partners for copy-paste and mosaic: see `compose.Others`."""

    source: _Source
    skipped: dict[str, str]

    def __call__(self, number: int, use: Callable[[Tensor, Record], T]) -> T:
        records = self.source.records
        for step in range(len(records)):
            record = records[(number + step) % len(records)]
            try:
                return use(self.source._pixels(record), record)
            except DataError as error:
                _note(record, error, self.skipped)
        raise DataError("no image of the data set can be used")


def _note(record: Record, error: DataError, skipped: dict[str, str]) -> None:
    """Images of a shard, and those that are made, may share a path."""
    alone = record.span is None and record.make is None
    image = str(record.path) if alone else f"{record.path}, image {record.image_id}"
    elsewhere = error.path is not None and str(error.path) != str(record.path)  # a mask file
    skipped[image] = str(error) if elsewhere else error.message


def _unchanged(loaded: Any) -> Any:
    return loaded


def _have_masks(dataset: Dataset) -> bool:
    """Raises `DataError` where only some of the images have masks."""
    table = dataset.table
    bare = np.flatnonzero((table.counts > 0) & (table.mask_counts == 0))
    if dataset.has_masks and len(bare):
        first = dataset[int(bare[0])]
        raise DataError(
            f"{len(bare)} of {len(dataset)} images have boxes without masks, the others have masks; leave one kind out",
            path=first.path,
            image=first.image_id,
        )
    return dataset.has_masks
