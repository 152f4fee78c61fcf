# %% [markdown]
# # Inspect a model step by step
#
# You will send one image through a trained Mask R-CNN and look at what each stage makes of it: anchors, proposals,
# classes, refined boxes, masks, features, losses. Where a result is wrong, the first stage that goes wrong is the one
# to mend.

# %% tags=["parameters"]
MODEL = None  # a run, a checkpoint, another framework's file; None: that of the demo, trained where it is missing
DATA = None  # a data set; its first annotated validation image is looked at; None: shapes
STEPS = 700  # of the training
IMAGES, SIZE = 500, 96  # of the shapes
WORKERS = 2
OUT = "runs/notebooks"

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.inspection.trace import IGNORED, NEGATIVE, POSITIVE
from maskrcnn.view import model_draw as draw
from maskrcnn.view.draw import grid

DATA = DATA or write_shapes(Path(OUT) / "shapes-data", train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))
if MODEL is None:
    MODEL = Path(OUT) / "shapes"
    if not MODEL.exists():
        changes = {"train.steps": STEPS, "data.min_size": SIZE, "data.max_size": SIZE, "data.workers": WORKERS}
        config = maskrcnn.preset("shapes").replace(**changes, **{"train.trackers": ()})
        maskrcnn.train(config, train=DATA, out=MODEL)
dataset = maskrcnn.open_dataset(DATA)
images = dataset.split("val") if "val" in dataset.splits else dataset
record = max(images[:20], key=len)

# %% [markdown]
# ## One image, every stage kept
#
# `inspect_model` runs the model's own code and keeps what passes by. With the record, which has the truth, it can say
# what was right.

# %%
trace = maskrcnn.inspect_model(MODEL, record.path, record)
print(
    f"{len(trace.anchors.boxes):,} anchors, {len(trace.proposals.boxes)} proposals, {len(trace.detections)} detections"
)
Image.fromarray(grid([draw.draw_truth(trace, 384), draw.draw_detections(trace, side=384)], columns=2))

# %% [markdown]
# ## Input
#
# The image as the network gets it: resized, padded to a multiple of 32 (stripes, where there is any), then normalised.
# Channels should lie around 0 with a spread of about 1.

# %%
for name, (mean, std, low, high) in zip(("red", "green", "blue"), trace.input.normalised, strict=True):
    print(f"{name:6} mean {mean:5.2f}  std {std:.2f}  from {low:.2f} to {high:.2f}")
Image.fromarray(draw.draw_input(trace, 320))

# %% [markdown]
# ## Stage 1: region proposals
#
# ### Anchors
#
# Boxes of a few sizes and shapes at every cell of every map. One that overlaps an object enough is positive, one that
# overlaps none is negative, those between are ignored.

# %%
for level, shape in enumerate(trace.anchors.shapes):
    states = trace.anchors.state[trace.anchors.level == level]
    counts = [int((states == state).sum()) for state in (POSITIVE, IGNORED, NEGATIVE)]
    print(f"P{level + 2}: map {shape[1]} x {shape[0]}, {counts[0]} positive, {counts[1]} ignored, {counts[2]} negative")

# %% [markdown]
# Positive anchors are dotted in the colour of their object; negative ones, those that enter the loss, are red.

# %%
Image.fromarray(grid([draw.draw_anchors(trace, "positive", 384), draw.draw_anchors(trace, "negative", 384)], columns=2))

# %% [markdown]
# ### RPN predictions
#
# The region proposal network gives each anchor a score (is there an object?) and four numbers that move it. The best
# anchors, and, dotted to solid, where they go.

# %%
steps = [draw.draw_proposals(trace, "anchors", 20, 384), draw.draw_proposals(trace, "refined", 20, 384)]
Image.fromarray(grid(steps, columns=2))

# %% [markdown]
# Then boxes are cut to the image, and of those that overlap much only the best stays: non-maximum suppression (NMS).

# %%
steps = [draw.draw_proposals(trace, "clipped", 20, 384), draw.draw_proposals(trace, "kept", 20, 384)]
Image.fromarray(grid(steps, columns=2))

# %% [markdown]
# What has no proposal now cannot be found later. An IoU of 0.5 is the least that the next stage can work with.

# %%
print("best proposal of each object, IoU:", *(f"{value:.2f}" for value in trace.proposals.recall))

# %% [markdown]
# ## Stage 2: proposal classification
#
# ### RoIAlign
#
# Each proposal is read from the map that fits its size, as 7 x 7 cells. Left the image inside the box, right the
# channels that vary most: all that the box head sees.

# %%
Image.fromarray(grid([draw.draw_crop(trace, index, 96) for index in range(min(6, len(trace.crops.rows)))], columns=3))

# %% [markdown]
# ### Scores
#
# A probability for each class and for background. One long bar: the head is sure; two: it confuses these classes.

# %%
names = [*trace.classes, "background"]
rows = trace.crops.rows[:4]
figure, panels = plt.subplots(1, len(rows), figsize=(10, 2.2), sharey=True, squeeze=False, layout="constrained")
for axes, row in zip(panels[0], rows, strict=True):
    axes.barh(names, trace.stages[-1].probabilities[row])
    axes.set(title=f"proposal {row}", xlim=(0, 1))

# %% [markdown]
# ### Refinement
#
# The head moves each box once more, for the class that it believes in: proposals dotted, detections solid.

# %%
Image.fromarray(draw.draw_refinement(trace, side=448))

# %% [markdown]
# ### NMS within each class
#
# Before (left) many boxes lie on each object, after (right) one. Dotted are those below the score threshold.

# %%
print(f"{int(trace.candidate_counts.sum())} pairs of box and class before, {len(trace.detections)} after")
Image.fromarray(grid([draw.draw_candidates(trace, side=384), draw.draw_detections(trace, side=384)], columns=2))

# %% [markdown]
# ## Stage 3: masks
#
# ### Targets and predictions
#
# The mask head draws each detection in 28 x 28 cells of its box. From left: the image, the probability, the target, the
# difference: yellow is right, red too much, blue missing.

# %%
shown = min(4, len(trace.detections))
Image.fromarray(grid([draw.draw_mask(trace, index, 112) for index in range(shown)], columns=2))

# %% [markdown]
# ### Pasted
#
# The small masks are enlarged into the image; a pixel belongs to the object from a probability of 0.5 on.

# %%
scale = max(1, 448 // max(trace.photo.shape[:2]))
Image.fromarray(trace.instances.draw(trace.photo, boxes=False, color_by="instance", scale=scale))

# %% [markdown]
# ## Inside the network
#
# ### Activations
#
# Left how strongly a layer answers over the image, right its liveliest channels. Early layers show edges, the pyramid
# whole objects.

# %%
layers = [activation for activation in trace.activations if min(activation.shape[1:]) > 3][:6]
print(*(f"{layer.name}: {layer.shape}, {layer.silent} silent channels" for layer in layers), sep="\n")
Image.fromarray(grid([draw.activation_picture(trace, layer, 200) for layer in layers], columns=2))

# %% [markdown]
# ### Losses
#
# What training would have been told about this image, shared out to the objects that cause it. One that costs much more
# than the others is hard, or wrongly annotated.

# %%
for name, value, shares in zip(trace.losses.parts, trace.losses.values, trace.losses.shares.T, strict=True):
    print(f"{name:10} {value:.3f}  by object: {np.round(shares[:-1], 3)}, background {shares[-1]:.3f}")
Image.fromarray(draw.draw_losses(trace, 384))

# %% [markdown]
# ## What next
#
# - All of this as one page: `maskrcnn inspect model MODEL IMAGE --data DATA --out page.html`.
# - The layers without an image: [inspect weights](inspect-weights.py). What the stages are for: [how Mask R-CNN
#   works](../docs/explanation/index.md).
