# %% [markdown]
# # Inspect data
#
# You will see a data set as the network gets it: objects with masks, what resizing and augmentation do to them, and
# which anchors fit their boxes. You will find the mistakes in it before they cost a training.

# %% tags=["parameters"]
DATA = None  # a folder of yours; None: shapes are drawn
IMAGES, SIZE = 500, 96  # of the shapes
OUT = "runs/notebooks"

# %%
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from maskrcnn.plan import plan
from maskrcnn.view.box_shapes import anchor_shapes, best_anchor_iou, input_sides
from maskrcnn.view.draw import draw_truth, grid
from maskrcnn.view.samples import before_and_after, draw_problem

fixed = {} if DATA else {"data.min_size": SIZE, "data.max_size": SIZE}
preset = None if DATA else "shapes"  # None: chosen to fit the data
if DATA is None:
    DATA = write_shapes(Path(OUT) / "shapes-data", train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))
dataset = maskrcnn.open_dataset(DATA)
print(dataset.summary())

# %% [markdown]
# ## Records
#
# A data set is a list of records. Boxes are `x0 y0 x1 y1` in pixels of the file, labels count from 0, and masks stay
# compressed until somebody asks for pixels.

# %%
record = dataset[1]
print(record.path.name, f"{record.width} x {record.height}")
for label, box in zip(record.labels, record.boxes, strict=True):
    print(f"{dataset.classes[label]:10}", box)


# %%
def shown(pixels):
    """As a picture; of photographs a smaller one."""
    image = Image.fromarray(pixels)
    image.thumbnail((1400, 1400))
    return image


scale = max(1, 288 // max(record.height, record.width))
shown(grid([draw_truth(record, dataset, boxes=boxes, scale=scale) for boxes in (True, False)], columns=2))

# %% [markdown]
# ## Masks
#
# One mask an object; where objects overlap, each has its visible part alone. A hole or a ragged edge here is a mistake
# in the annotation.

# %%
masks = [decode_rle(mask_to_rle(mask, (record.height, record.width))) for mask in record.masks]
tiles = [np.where(mask, 255, 40).astype(np.uint8).repeat(2, 0).repeat(2, 1) for mask in masks]
shown(grid([np.dstack([tile] * 3) for tile in tiles], columns=4))

# %% [markdown]
# ## How many of each
#
# A class with a tenth of the objects of another is learned later. Sizes matter more than counts: what is a few pixels
# wide in the network's input cannot be found.

# %%
sides = np.sqrt(np.prod(dataset.table.boxes[:, 2:] - dataset.table.boxes[:, :2], axis=1))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.bar(dataset.classes, dataset.class_counts())
left.set_title("objects of each class")
right.hist(sides, bins=30)
_ = right.set(title="size of the objects", xlabel="square root of the box area, pixels")

# %% [markdown]
# ## Resized and augmented
#
# Left an image as it is given for evaluation, right as training sees it: each time another way. Masks must stay on
# their objects.

# %%
config = plan(dataset, preset, fixed=fixed).config
stronger = replace(config.data, rotation=15.0, scale_jitter=(0.7, 1.3), cutout=0.5)
pairs = [picture for pair in before_and_after(dataset, [1, 2, 3, 4], stronger, 192) for picture in pair[1:]]
Image.fromarray(grid([picture.repeat(2, 0).repeat(2, 1) for picture in pairs], columns=4))

# %% [markdown]
# ## Anchors
#
# Anchors are the boxes from which the network starts. Each dot is an object, each cross an anchor shape; an object
# without an anchor near it is learned slowly or never. Then change `model.rpn.anchors.sizes` and `ratios`.

# %%
boxes, anchors = input_sides(dataset.table, config.data), anchor_shapes(config.model.rpn.anchors)
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
axes.plot(boxes[:, 1], boxes[:, 0], ".", markersize=3, label="objects")
axes.plot(anchors[:, 1], anchors[:, 0], "rx", label="anchors")
axes.set(xlabel="width in the input, pixels", ylabel="height", xscale="log", yscale="log")
_ = axes.legend()

# %%
best = best_anchor_iou(boxes, anchors)
print(f"{(best >= 0.5).mean():.0%} of the objects overlap an anchor shape by half or more")
print(f"the median object by {np.median(best):.2f}")

# %% [markdown]
# ## Find mistakes
#
# Shapes have none, so some are made: a box that ends before it starts, and objects outside their image. Each is named
# with file and annotation, and with what training does about it.

# %%
boxes = record.boxes.copy()
boxes[0] = boxes[0][[2, 1, 0, 3]]
outside = dataset[2].boxes + np.float32(2 * dataset[2].width)
bad = replace(dataset, records=[replace(record, boxes=boxes), replace(dataset[2], boxes=outside), *dataset[3:6]])
problems = maskrcnn.check_dataset(bad)
print(Counter(problem.kind for problem in problems))
print(*problems[:4], sep="\n")

# %%
drawn = draw_problem(bad, problems[0], 192)
Image.fromarray(drawn.repeat(2, 0).repeat(2, 1))

# %% [markdown]
# ## What next
#
# - All of this as one page: `maskrcnn inspect data DATA --html page.html`.
# - [Train](train.py) on it, then see [what the model does](inspect-model.py) with one of the images.
