"""One image through one model with everything in between kept: `inspect_model` gives a `Trace`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskrcnn.data.resize import corner_of, pad_to
from maskrcnn.data.sample import to_display
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.inspection import stages
from maskrcnn.inspection.activations import watched
from maskrcnn.inspection.listen import listening
from maskrcnn.inspection.losses import losses_of
from maskrcnn.inspection.trace import Trace
from maskrcnn.inspection.truth import targets_of, truth_of
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.exported.model import is_exported
from maskrcnn.predict.predictor import Predictor, Prepared
from maskrcnn.structures import Record
from maskrcnn.weights.load import load_weights


def inspect_model(
    model: MaskRCNN | str | Path,
    image: Any = None,
    record: Record | None = None,
    *,
    classes: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    score_threshold: float = 0.5,
) -> Trace:
    """Run one image through a model and keep every stage.

    On the CPU in float32, through the model's own methods: `trace.instances` are those of
    `Predictor(model, "cpu")(image, score_threshold)`. The model given stays as it is.

    Args:
        model: a network, or what `load_weights` opens.
        image: as `Predictor` takes it; None: that of the record.
        record: the truth of this image; None: anchors, losses and mask targets are then not compared with anything.
        classes: what the labels of the record mean; None: the model's own classes.
        layers: modules whose maps to keep, by their names in `model.named_modules()`; None: the stages of the trunk
            and the levels of the pyramid.
        score_threshold: weaker detections are not among `trace.instances`.

    Raises:
        ConfigError: neither image nor record; an unknown layer, or one without a map; a threshold outside 0..1.
        DataError: the image cannot be read, or is of another size than the record says.
        WeightsError: the model cannot be opened, or is an exported file, whose inside is gone.
    """
    if image is None and record is None:
        raise ConfigError("give an image, a record, or both", field="image")
    if not 0 <= score_threshold <= 1:
        raise ConfigError(f"{score_threshold} must lie between 0 and 1", field="score_threshold")
    if not isinstance(model, MaskRCNN):
        if is_exported(model):
            raise WeightsError(f"{model}: an exported file has no inside to look at; give the checkpoint it came from")
        model = load_weights(model)
    image = record if image is None else image
    predictor = Predictor(model, "cpu", "float32")
    copy = predictor.model
    assert isinstance(copy, MaskRCNN)
    prepared = predictor.prepare(image)
    targets, notes = (None, []) if record is None else targets_of(copy, image, record, classes)
    notes += _broken(copy)
    truth = None if targets is None else truth_of(targets)
    with watched(copy, layers) as activations, listening() as listen:
        heard = stages.hear(copy, listen)
        instances = predictor.predict_prepared([prepared], score_threshold)[0]
    images, sizes, content = _input(predictor, prepared)
    everything, counts = stages.candidates_of(copy, heard, truth)
    detections = stages.detections_of(copy, heard, everything, truth)
    proposals = stages.proposals_of(copy, heard, truth)
    trace = Trace(
        photo=to_display(image),
        path=prepared.path,
        classes=copy.classes,
        input=stages.input_of(copy, images, content, heard),
        anchors=stages.anchors_of(copy, heard),
        proposals=proposals,
        stages=stages.box_stages_of(copy, heard),
        crops=stages.crops_of(detections, proposals, heard),
        candidates=stages.shortened(everything),
        candidate_counts=counts,
        detections=detections,
        masks=None if copy.mask_head is None else stages.masks_of(copy, heard, detections, truth, targets),
        heat_maps=None if copy.keypoint_head is None else stages.heat_maps_of(copy, heard, detections),
        activations=tuple(activations),
        truth=truth,
        losses=None,
        instances=instances,
        score_threshold=score_threshold,
        notes=tuple(notes),
    )
    if truth is None or targets is None:
        return trace
    losses, states, more = losses_of(copy, images, sizes, targets, truth)
    anchors = replace(trace.anchors, state=states.state, object=states.object, sampled=states.sampled)
    return replace(trace, anchors=anchors, losses=losses, notes=(*trace.notes, *more))


def _broken(model: MaskRCNN) -> list[str]:
    """A sentence where weights are not finite: nothing that follows from them means anything."""
    names = [name for name, value in model.state_dict().items() if not bool(value.isfinite().all())]
    if not names:
        return []
    return [f"{len(names)} tensors of the model hold NaN or infinite numbers, first {names[0]}: it cannot find "
            "anything; see `maskrcnn inspect weights`"]  # fmt: skip


def _input(predictor: Predictor, prepared: Prepared) -> tuple[Tensor, Tensor, tuple[int, int, int, int]]:
    """The batch of one that the predictor made, its sizes, and where the content lies, x0 y0 x1 y1."""
    height, width = prepared.content.shape[-2:]
    frame, place = predictor.fit(prepared.size)[1], predictor.model.data.pad_place
    top, left = corner_of((height, width), frame, place)
    images = pad_to(prepared.content, frame, place)[None]
    return images, torch.tensor([[height, width]]), (left, top, left + width, top + height)
