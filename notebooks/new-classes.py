# %% [markdown]
# # New classes from an existing model
#
# You will teach a model that knows squares, circles and triangles two new classes, stars and crosses, in a tenth of the
# time. What it knows about objects in general stays; what it knows about its old classes is matched by name.

# %% tags=["parameters"]
MODEL = None  # a run, a checkpoint, another framework's file; None: that of the demo, trained where it is missing
STEPS, NEW_STEPS = 400, 120  # of that training, and of the new one
IMAGES, SIZE = 500, 96  # to train on at first
NEW_IMAGES = 120
WORKERS = 2
OUT = "runs/notebooks"

# %%
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.ops.rle import encode_mask
from maskrcnn.view.draw import draw_truth, grid, side_by_side

base = {"train.trackers": (), "data.min_size": SIZE, "data.max_size": SIZE, "data.workers": WORKERS}
if MODEL is None:
    MODEL = Path(OUT) / "shapes"
    if not MODEL.exists():
        data = write_shapes(Path(OUT) / "shapes-data", train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))
        config = maskrcnn.preset("shapes").replace(**base, **{"train.steps": STEPS})
        maskrcnn.train(config, train=data, out=MODEL)
old = maskrcnn.load_weights(MODEL)
print(old.classes)

# %% [markdown]
# ## Data with new classes
#
# Circles, which the model knows, stars and crosses, which it does not. Written as COCO, the format that most tools
# write.

# %%
CLASSES = ("star", "cross", "circle")


def outline(kind, x, y, radius, turn):
    """Corners of one object around x, y."""
    if kind == "circle":
        radii, count = [1.0], 32
    else:
        radii, count = ([1.0, 0.42], 10) if kind == "star" else ([1.0, 1.0, 0.45], 12)
    angles = turn + np.arange(count) * 2 * np.pi / count
    if kind == "cross":  # arms of four corners each
        angles = turn + np.ravel(np.arange(4)[:, None] * np.pi / 2 + np.array([-0.38, 0.38, np.pi / 4]))
    sides = radius * np.resize(radii, count)
    return [(x + side * np.cos(angle), y + side * np.sin(angle)) for side, angle in zip(sides, angles, strict=True)]


def scene(rng):
    """Pixels, and (class, mask) of two objects."""
    image = Image.new("RGB", (SIZE, SIZE), tuple(rng.integers(0, 110, 3).tolist()))
    objects = []
    for left in (0.27, 0.73):
        kind = int(rng.integers(len(CLASSES)))
        x, y = SIZE * (left + rng.uniform(-0.04, 0.04)), SIZE * rng.uniform(0.27, 0.73)
        corners = outline(CLASSES[kind], x, y, SIZE * rng.uniform(0.16, 0.22), rng.uniform(0, 6))
        ImageDraw.Draw(image).polygon(corners, fill=tuple(rng.integers(130, 256, 3).tolist()))
        mask = Image.new("1", image.size)
        ImageDraw.Draw(mask).polygon(corners, fill=1)
        objects.append((kind, np.array(mask)))
    return image, objects


# %%
def write_scenes(folder, count, seed):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, images, annotations = np.random.default_rng(seed), [], []
    for number in range(count):
        image, objects = scene(rng)
        image.save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": SIZE, "height": SIZE})
        for kind, mask in objects:
            rle, rows, columns = encode_mask(mask), np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": kind + 1, "iscrowd": 0}
                | {"bbox": [int(side) for side in box], "area": int(mask.sum())}
                | {"segmentation": {"size": [SIZE, SIZE], "counts": rle["counts"].decode()}}
            )
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations.json").write_text(text)


folder = Path(OUT) / "stars"
write_scenes(folder / "train", NEW_IMAGES, seed=1)
write_scenes(folder / "val", max(4, NEW_IMAGES // 6), seed=2)
dataset = maskrcnn.open_dataset(folder)
print(dataset.summary())
scale = max(1, 224 // SIZE)
Image.fromarray(grid([draw_truth(record, dataset, scale=scale) for record in dataset[:4]], columns=4))

# %% [markdown]
# ## Before
#
# The old model finds the objects, but calls the new ones by the names that it has.

# %%
val = dataset.split("val")
predictor = maskrcnn.Predictor(old)
Image.fromarray(grid([predictor(record.path, 0.5).draw(scale=scale) for record in val[:4]], columns=4))

# %% [markdown]
# ## Train on
#
# `weights` is where to start from. The last layers get a row for each class of the data: rows of classes with a known
# name are taken over, the others begin anew. The lines below say which.

# %%
changes = base | {
    "train.steps": NEW_STEPS,
    "train.evaluate_every": 0.0,
    "train.log_every": 40,
    "train.warmup_steps": 10,
}
config = maskrcnn.preset("shapes").replace(**changes, **{"train.ema_decay": 0.98})
run = maskrcnn.train(config, train=dataset.split("train"), val=val, weights=MODEL, out=Path(OUT) / "stars-run")

# %% [markdown]
# ## After
#
# Truth on the left of each pair.

# %%
predictor = maskrcnn.Predictor(run.model)
pairs = []
for record in val[:4]:
    pairs.append(side_by_side(draw_truth(record, dataset, scale=scale), predictor(record.path, 0.5).draw(scale=scale)))
Image.fromarray(grid(pairs, columns=2))

# %%
print(maskrcnn.evaluate(run.model, val, progress=False))

# %% [markdown]
# ## What next
#
# - With photographs start from a model of photographs: `weights="coco"`, or a file of [another
#   framework](from-matterport.py).
# - Few images? Freeze the trunk: `model.backbone.frozen_stages`. [How to fine-tune](../docs/how-to/fine-tune.md) has
#   more.
