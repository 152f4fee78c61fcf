"""How large the objects of a training set come to the network: what tiles of large images are chosen by."""

from __future__ import annotations

import numpy as np

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import resized_size
from maskrcnn.dataset import Dataset
from maskrcnn.structures import ObjectSizes

COMMON = 0.95
"""Part of the objects that `ObjectSizes.common` holds."""


def object_sizes(dataset: Dataset, data: DataConfig) -> ObjectSizes | None:
    """Measured on the columns of the data set, without an image; crowds are no objects. None where there is no box.

    Args:
        dataset: boxes in the original frame.
        data: how images become the input.
    """
    table = dataset.table
    kinds, which = np.unique(table.sizes, axis=0, return_inverse=True)
    if not len(kinds):
        return None
    factors = np.array([resized_size(int(high), int(wide), data) for high, wide in kinds]) / kinds  # (K, 2) y, x
    factors = factors[which.reshape(-1)]  # (images, 2)
    boxes = table.boxes
    longest = ((boxes[:, 2:] - boxes[:, :2]) * factors[table.image_of][:, ::-1]).max(axis=1, initial=0)
    longest = longest[~table.crowd & (longest > 0)]
    if not len(longest):
        return None
    median, common, largest = (float(value) for value in np.quantile(longest, [0.5, COMMON, 1]))
    return ObjectSizes(float(np.median(np.sqrt(factors.prod(axis=1)))), median, common, largest)
