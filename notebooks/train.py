# %% [markdown]
# # Train on your own data
#
# You will see images with their annotations, a plan made from them, a network that learns from random weights in
# minutes, and what it then finds in images that it has never seen. Shapes are drawn here, so that nothing is
# downloaded; put your own folder in their place.

# %% tags=["parameters"]
DATA = None  # a folder of yours, such as Matterport's balloon; None: shapes are drawn
PRESET = "shapes"  # for your photographs None: chosen to fit them
WEIGHTS = None  # for your photographs "coco" or a file; None: random
STEPS = 700
IMAGES, SIZE = 500, 96  # of the shapes
WORKERS = 2
OUT = "runs/notebooks"

# %%
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.plan import choose_splits, plan
from maskrcnn.view.draw import draw_truth, grid, side_by_side

out = Path(OUT)
run_folder = out / ("mine" if DATA else "shapes")
if DATA is None:
    DATA = write_shapes(out / "shapes-data", train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))

# %% [markdown]
# ## Look before you train
#
# A folder is enough: the format is found out. [Data](../docs/data.md) lists the layouts that are read.

# %%
dataset = maskrcnn.open_dataset(DATA)
print(dataset.summary())

# %% [markdown]
# Wrong annotations cost more than a wrong learning rate. This lists every problem, with file and annotation.

# %%
problems = maskrcnn.check_dataset(dataset)
print(*problems[:10] or ["no problems"], sep="\n")

# %% [markdown]
# A picture shows a shifted mask, or two classes mixed up, faster than any number.


# %%
def scale_of(record):
    return max(1, 256 // max(record.height, record.width))


def shown(pixels):
    """As a picture; of photographs a smaller one."""
    image = Image.fromarray(pixels)
    image.thumbnail((1400, 1400))
    return image


shown(grid([draw_truth(record, dataset, scale=scale_of(record)) for record in dataset[:4]], columns=4))

# %% [markdown]
# ## The plan
#
# Without a validation split a fifth of the images is held out. Number of classes, input size and anchors follow from
# the data, and each choice comes with its reason.

# %%
train, val, why = choose_splits(dataset)
print(why)
changes = {"train.steps": STEPS, "train.evaluate_every": 2.0, "train.log_every": 50, "train.trackers": ()}
changes |= {"data.min_size": SIZE, "data.max_size": SIZE} if PRESET == "shapes" else {}
chosen = plan(
    train, PRESET, fixed=changes | {"data.workers": WORKERS}, pretrained=WEIGHTS is not None or PRESET == "shapes"
)
print(*chosen.reasons, sep="\n")

# %% [markdown]
# ## Train
#
# The loss of each part is printed: `rpn_score` and `rpn_box` of the proposals, `class`, `box` and `mask` of the heads.
# AP, measured on the images held out, is the number that counts.

# %%
run = maskrcnn.train(chosen.config, train=train, val=val, weights=WEIGHTS, out=run_folder)

# %% [markdown]
# ## Did it learn?
#
# The loss should fall, and the AP rise. A loss that falls while the AP falls too means that the network learns the
# images by heart.

# %%
history = maskrcnn.inspect_run(run_folder)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name, curve in history.curves.items():
    if name.startswith("loss/") and name != "loss/total":
        left.plot(curve.steps, curve.values, label=name.removeprefix("loss/"))
    if name in ("box/ap", "mask/ap"):
        right.plot(curve.steps, curve.values, marker=".", label=name)
left.set(title="losses", xlabel="step")
right.set(title="AP of the images held out", xlabel="step", ylim=(0, 1))
left.legend()
_ = right.legend()

# %% [markdown]
# ## What it finds
#
# Truth on the left of each pair, prediction on the right.

# %%
predictor = maskrcnn.Predictor(run.model)
pairs = []
for record in val[:6]:
    found = predictor(record.path, score_threshold=0.5)
    scale = scale_of(record)
    pairs.append(side_by_side(draw_truth(record, dataset, scale=scale), found.draw(scale=scale)))
shown(grid(pairs, columns=2))

# %% [markdown]
# ## How good is it?

# %%
metrics = maskrcnn.evaluate(run.model, val, progress=False)
print(metrics)

# %% [markdown]
# ## What next
#
# - The same from the command line: `maskrcnn train DATA --out runs/mine`, then `maskrcnn evaluate runs/mine DATA`.
# - See what the network does inside: [inspect model](inspect-model.py). Other classes: [new classes](new-classes.py).
# - It does not learn? [The tutorial](../docs/tutorials/train-on-your-data.md) has a table of what it often is.
