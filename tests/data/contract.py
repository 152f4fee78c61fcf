"""What every reader promises."""

from __future__ import annotations

import numpy as np

from maskrcnn.dataset import Dataset
from maskrcnn.structures import MaskFile, Polygons


def assert_dataset(dataset: Dataset) -> None:
    """Labels contiguous, boxes inside the image, ids unique, files there, dtypes as documented."""
    assert len(dataset) > 0
    assert (
        len(dataset.classes) == len(dataset.category_ids) == len(set(dataset.classes)) == len(set(dataset.category_ids))
    )
    image_ids = [record.image_id for record in dataset]
    assert len(set(image_ids)) == len(image_ids)
    with_masks = {bool(record.masks) for record in dataset if len(record)}
    assert len(with_masks) <= 1, "all images have masks, or none"
    for record in dataset:
        count = len(record)
        assert record.make is not None or record.path.is_file()
        assert isinstance(record.image_id, int)
        assert record.boxes.dtype == np.float32
        assert record.boxes.shape == (count, 4)
        assert record.labels.dtype == np.int64
        assert (
            record.labels.shape == record.crowd.shape == record.areas.shape == record.annotation_ids.shape == (count,)
        )
        assert record.crowd.dtype == bool
        assert record.areas.dtype == np.float32
        assert record.annotation_ids.dtype == np.int64
        assert len(record.masks) in (0, count)
        if count:
            assert record.labels.min() >= 0
            assert record.labels.max() < len(dataset.classes)
            assert record.boxes.min() >= 0
            assert (record.boxes[:, [0, 2]] <= record.width).all()
            assert (record.boxes[:, [1, 3]] <= record.height).all()
            assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()
            assert (record.areas > 0).all()
        for mask in record.masks:
            if isinstance(mask, Polygons):
                assert all(ring.ndim == 2 and ring.shape[1] == 2 and len(ring) >= 3 for ring in mask.rings)
            elif isinstance(mask, MaskFile):
                assert mask.path.is_file()
            else:
                assert mask.size == record.size
        if record.keypoints is not None:
            assert dataset.keypoints is not None
            assert record.keypoints.shape == (count, len(dataset.keypoints.names), 3)
    assert dataset.summary()
