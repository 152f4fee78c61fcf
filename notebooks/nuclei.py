# %% [markdown]
# # Nuclei
#
# You will see cell nuclei found in microscope images: many small objects of one class that touch. The data has the
# layout of the Data Science Bowl 2018, with a mask image for each nucleus; it is drawn here, and the real folder can be
# put in its place.

# %% tags=["parameters"]
DATA = None  # the unpacked stage1_train of the Data Science Bowl 2018; None: drawn here
WEIGHTS = "shapes"  # the model of the demo, trained where it is missing; "coco", a file, or None: random
STEPS = 150
IMAGES, SIZE = 100, 128  # of what is drawn
FIRST_STEPS, FIRST_IMAGES, FIRST_SIZE = 400, 500, 96  # of the demo
WORKERS = 2
OUT = "runs/notebooks"

# %%
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.plan import choose_splits
from maskrcnn.view.draw import draw_truth, grid, side_by_side

# %% [markdown]
# ## Draw nuclei
#
# Blurred, uneven ellipses on a dark ground, some touching. Each image has a folder with `images/` and `masks/`, one
# file a nucleus.


# %%
def nucleus(shape, rng):
    """A mask: an ellipse with an uneven border."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    height, width = rng.uniform(6, 13, 2)
    turn, waves = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    dy, dx = y - rng.uniform(4, shape[0] - 4), x - rng.uniform(4, shape[1] - 4)
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    return np.hypot(u / width, v / height) < 1 + 0.1 * np.cos(3 * np.arctan2(v, u) + waves)


def slide(rng):
    """Pixels (H, W, 3) and the visible mask of each nucleus."""
    pixels, masks = np.full((SIZE, SIZE), rng.uniform(8, 30)), []
    for _ in range(int(rng.integers(8, 16))):
        mask = nucleus(pixels.shape, rng)
        if any((mask & other).sum() > 0.15 * min(mask.sum(), other.sum()) for other in masks):
            continue
        masks = [*(other & ~mask for other in masks), mask]
        pixels[mask] = rng.uniform(70, 190)
    blurred = Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    noisy = np.clip(np.array(blurred) + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    return np.dstack([noisy] * 3), [mask for mask in masks if mask.sum() > 30]


def write_slides(folder, count):
    for number in range(count):
        pixels, masks = slide(np.random.default_rng(number))
        for part in ("images", "masks"):
            (folder / f"slide{number:03d}" / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"slide{number:03d}/images/slide{number:03d}.png")
        for index, mask in enumerate(masks):
            Image.fromarray(mask).save(folder / f"slide{number:03d}/masks/{index}.png")
    return folder


# %%
def shown(pixels):
    """As a picture; of photographs a smaller one."""
    image = Image.fromarray(pixels)
    image.thumbnail((1400, 1400))
    return image


dataset = maskrcnn.open_dataset(DATA or write_slides(Path(OUT) / "nuclei", IMAGES))
print(dataset.summary())
scale = max(1, 256 // dataset[0].height)
shown(grid([draw_truth(record, dataset, labels=False, scale=scale) for record in dataset[:3]], columns=3))

# %% [markdown]
# ## Settings for nuclei
#
# Small anchors; augmentation that suits a microscope, where up and down mean nothing; room for many objects.

# %%
config = maskrcnn.preset("shapes").replace(
    **{
        "model.rpn.anchors.sizes": ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,)),
        "model.rpn.post_nms_test": 200,
        "data.min_size": 3 * SIZE // 2 if DATA is None else 512,
        "data.max_size": 3 * SIZE // 2 if DATA is None else 512,
        "data.vertical_flip": 0.5,
        "data.rotation": 30.0,
        "data.workers": WORKERS,
        "train.batch_size": 4,
        "train.steps": STEPS,
        "train.evaluate_every": 0.0,
        "train.log_every": 50,
        "train.ema_decay": 0.99,
        "train.trackers": (),
    }
)

# %% [markdown]
# ## Train
#
# A fifth of the images is held out. Edges and blobs have been learned from shapes already, which saves most of the
# time; with real slides start from `"coco"`.

# %%
if WEIGHTS == "shapes":
    WEIGHTS = Path(OUT) / "shapes"
    if not WEIGHTS.exists():
        size = (FIRST_SIZE, FIRST_SIZE)
        data = write_shapes(Path(OUT) / "shapes-data", train=FIRST_IMAGES, val=FIRST_IMAGES // 10, size=size)
        changes = {"train.steps": FIRST_STEPS, "data.min_size": FIRST_SIZE, "data.max_size": FIRST_SIZE}
        first = maskrcnn.preset("shapes").replace(**changes, **{"data.workers": WORKERS, "train.trackers": ()})
        maskrcnn.train(first, train=data, out=WEIGHTS)
train, val, why = choose_splits(dataset)
print(why)
run = maskrcnn.train(config, train=train, val=val, weights=WEIGHTS, out=Path(OUT) / "nuclei-run")

# %% [markdown]
# ## What it finds
#
# Truth on the left. Each nucleus has a colour of its own, so that touching ones can be told apart.

# %%
predictor = maskrcnn.Predictor(run.model)
pairs = []
for record in val[:3]:
    found = predictor(record.path, score_threshold=0.5)
    truth = draw_truth(record, dataset, labels=False, boxes=False, scale=scale)
    pairs.append(side_by_side(truth, found.draw(labels=False, boxes=False, scale=scale)))
shown(grid(pairs, columns=1))

# %%
print(maskrcnn.evaluate(run.model, val, progress=False))

# %% [markdown]
# ## Count and measure
#
# What a biologist wants: how many, and how large.

# %%
areas = np.concatenate([predictor(record.path, 0.5).masks.sum(axis=(1, 2)) for record in val])
print(f"{len(areas)} nuclei in {len(val)} images, area {np.median(areas):.0f} pixels (median)")

# %% [markdown]
# ## A submission
#
# The competition wanted runs: first pixel (from 1, downwards, then to the right) and length. COCO's encoding runs the
# same way.


# %%
def runs(mask):
    flat = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
    starts, ends = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))


lines = ["ImageId,EncodedPixels"]
for record in val[:3]:
    lines += [f"{record.path.stem},{runs(mask)}" for mask in predictor(record.path, 0.5).masks]
(Path(OUT) / "submission.csv").write_text("\n".join(lines))
print(*(line[:90] for line in lines[:3]), sep="\n")

# %% [markdown]
# ## What next
#
# - Objects of a few pixels: [small objects](../docs/how-to/small-objects.md).
# - Which nuclei are missed, and at which stage: [inspect model](inspect-model.py).
