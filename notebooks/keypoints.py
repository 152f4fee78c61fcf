# %% [markdown]
# # Keypoints
#
# You will train a model that finds not only objects but named points on them. Arrows stand for people: each has a tip,
# a tail, and a left and a right barb. The same steps take COCO's person keypoints.

# %% tags=["parameters"]
DATA = None  # COCO annotations with keypoints; None: arrows are drawn
WEIGHTS = "shapes"  # the model of the demo, trained where it is missing; a file, or None: random
STEPS = 250
IMAGES, SIZE = 300, 96  # of what is drawn
FIRST_STEPS, FIRST_IMAGES = 400, 500  # of the demo
WORKERS = 2
OUT = "runs/notebooks"

# %%
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import maskrcnn
from maskrcnn.config import KeypointHeadConfig
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.plan import choose_splits
from maskrcnn.view.draw import grid
from maskrcnn.view.sketch import Sketch, color_of, heat, mosaic, overlay, region

# %% [markdown]
# ## Draw arrows
#
# In COCO a category names its keypoints, and each object lists x, y, visibility (2: seen, 1: hidden, 0: not labelled)
# of each.

# %%
POINTS = ("tip", "left_barb", "right_barb", "tail")
ARROW = np.array([(1, 0), (0.1, -0.62), (0.1, -0.2), (-1, -0.2), (-1, 0.2), (0.1, 0.2), (0.1, 0.62)])
MARKS = np.array([(1, 0), (0.1, -0.62), (0.1, 0.62), (-1, 0)])


def arrow(x, y, rng):
    """Corners of the outline, and the four keypoints."""
    turn, length = rng.uniform(0, 2 * np.pi), SIZE * rng.uniform(0.17, 0.23)
    turned = length * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return ARROW @ turned + (x, y), MARKS @ turned + (x, y)


def write_arrows(folder, count, seed):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, images, annotations = np.random.default_rng(seed), [], []
    for number in range(count):
        image = Image.new("RGB", (SIZE, SIZE), tuple(rng.integers(0, 120, 3).tolist()))
        for left in (0.27, 0.73)[: int(rng.integers(1, 3))]:
            corners, points = arrow(SIZE * left, SIZE * rng.uniform(0.27, 0.73), rng)
            ImageDraw.Draw(image).polygon(
                [tuple(corner) for corner in corners], fill=tuple(rng.integers(130, 256, 3).tolist())
            )
            low, high = corners.min(axis=0), corners.max(axis=0)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": 4}
                | {"bbox": [*low.tolist(), *(high - low).tolist()], "area": float(np.prod(high - low)) / 3}
                | {
                    "segmentation": [corners.ravel().tolist()],
                    "keypoints": np.c_[points, np.full(4, 2)].ravel().tolist(),
                }
            )
        image.save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": SIZE, "height": SIZE})
    categories = [{"id": 1, "name": "arrow", "keypoints": list(POINTS), "skeleton": [[1, 2], [1, 3], [1, 4]]}]
    (folder / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )


if DATA is None:
    DATA = Path(OUT) / "arrows"
    write_arrows(DATA / "train", IMAGES, seed=1)
    write_arrows(DATA / "val", max(4, IMAGES // 10), seed=2)
dataset = maskrcnn.open_dataset(DATA)
print(dataset.summary())
print(dataset.keypoints)

# %% [markdown]
# `flip_pairs` says which points change places when an image is mirrored: it was read from the names. Without it a
# mirrored left barb would be taught as a left one.
#
# ## A model with a keypoint head
#
# The head draws a map for each keypoint; its highest cell is the answer.

# %%
config = maskrcnn.preset("shapes").replace(
    **{
        "model.keypoint": KeypointHeadConfig(convolutions=3, channels=64),
        "data.min_size": SIZE if len(POINTS) == len(dataset.keypoints.names) else 512,
        "data.max_size": SIZE if len(POINTS) == len(dataset.keypoints.names) else 768,
        "data.workers": WORKERS,
        "train.steps": STEPS,
        "train.evaluate_every": 0.0,
        "train.log_every": 50,
        "train.ema_decay": 0.99,
        "train.trackers": (),
    }
)

# %%
if WEIGHTS == "shapes":
    WEIGHTS = Path(OUT) / "shapes"
    if not WEIGHTS.exists():
        data = write_shapes(Path(OUT) / "shapes-data", train=FIRST_IMAGES, val=FIRST_IMAGES // 10, size=(SIZE, SIZE))
        changes = {"train.steps": FIRST_STEPS, "data.min_size": SIZE, "data.max_size": SIZE, "data.workers": WORKERS}
        first = maskrcnn.preset("shapes").replace(**changes, **{"train.trackers": ()})
        maskrcnn.train(first, train=data, out=WEIGHTS)
train, val, _ = choose_splits(dataset)
run = maskrcnn.train(config, train=train, val=val, weights=WEIGHTS, out=Path(OUT) / "arrows-run")

# %% [markdown]
# ## What it finds
#
# Objects that it has never seen, with their points: the first of `POINTS`, the tip, is orange, then blue, green and
# yellow.

# %%
predictor = maskrcnn.Predictor(run.model)


def drawn(record):
    found = predictor(record.path, score_threshold=0.5)
    sketch = Sketch(found.draw(boxes=False, labels=False, keypoints=False), 288)
    for number in range(len(dataset.keypoints.names)):
        sketch.dots(found.keypoints[:, number], color_of(number))
    return sketch.array()


Image.fromarray(grid([drawn(record) for record in val[:6]], columns=3))

# %%
instances = predictor(val[0].path, score_threshold=0.5)
for one in instances:
    for name, (x, y, score) in zip(one.keypoint_names, one.keypoints[0], strict=True):
        print(f"{name:11} x {x:5.1f}  y {y:5.1f}  score {score:.2f}")

# %% [markdown]
# ## Heat maps
#
# One bright spot is a sure answer; two are a doubt, most often between left and right. In order: the object, then the
# map of each point, its weak places made brighter by a root.

# %%
record = val[0]
trace = maskrcnn.inspect_model(run.model, record.path, record)
ground = region(trace.input.pixels, trace.detections.boxes[0] if len(trace.detections) else trace.truth.boxes[0], 160)
maps = [overlay(ground, heat(one**0.3)) for maps in trace.heat_maps.maps[:1] for one in maps]
Image.fromarray(mosaic([ground, *maps], columns=5))

# %% [markdown]
# ## How good is it?
#
# Keypoint AP counts a point as right by how far it is off, relative to the size of its object (OKS, as COCO does).

# %%
print(maskrcnn.evaluate(run.model, val, progress=False))

# %% [markdown]
# ## What next
#
# - [Keypoints](../docs/how-to/keypoints.md): the settings for people, OKS sigmas, and models that exist.
# - Keypoints on films: the steps of [video](video.py) with this model.
