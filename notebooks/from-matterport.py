# %% [markdown]
# # Coming from Matterport
#
# You will train with a `Dataset` class and a `Config` class as Matterport's notebooks have them, open an `.h5` file
# without Keras or TensorFlow, and write one back. The checkpoint is made here with random weights: `mask_rcnn_coco.h5`
# opens the same way.

# %% tags=["parameters"]
H5 = None  # a file of yours; None: one with random weights
CONFIG = None  # the Python file with its Config class; None: the one of these random weights
STEPS = 40  # of training on; a demonstration, too few to learn anything
IMAGES, SIZE = 24, 128
WORKERS = 2
OUT = "runs/notebooks"

# %%
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import maskrcnn
from maskrcnn.data.adapters.matterport import Dataset, from_matterport
from maskrcnn.data.synthetic import CLASSES, draw_shapes
from maskrcnn.view.draw import draw_truth, grid
from maskrcnn.view.sketch import resized
from maskrcnn.weights.convert import convert_weights
from maskrcnn.weights.matterport.config import to_config
from maskrcnn.weights.matterport.model import open_matterport
from maskrcnn.weights.matterport.write import save_matterport

out = Path(OUT) / "matterport"
shutil.rmtree(out, ignore_errors=True)
out.mkdir(parents=True)

# %% [markdown]
# ## A Dataset class
#
# Only the import changes: `add_class`, `add_image`, `prepare`, `load_image` and `load_mask` are what they were.


# %%
class ShapesDataset(Dataset):
    def load_shapes(self, count, size):
        for number, name in enumerate(CLASSES):
            self.add_class("shapes", number + 1, name)
        for seed in range(count):
            self.add_image("shapes", seed, path=None, size=size)

    def draw(self, image_id):
        info = self.image_info[image_id]
        return draw_shapes((info["size"], info["size"]), np.random.default_rng(info["id"]))

    def load_image(self, image_id):
        return self.draw(image_id)[0]

    def load_mask(self, image_id):
        _, labels, masks = self.draw(image_id)
        return np.dstack(masks), labels.astype(np.int32) + 1


shapes = ShapesDataset()
shapes.load_shapes(IMAGES, SIZE)
shapes.prepare()
print(shapes.class_names)

# %% [markdown]
# `from_matterport` makes a data set of it that can be looked at, checked and trained on. Their class 0, the background,
# is gone: labels start at 0 here.

# %%
dataset = from_matterport(shapes)
print(dataset.summary())
Image.fromarray(grid([draw_truth(record, dataset, scale=max(1, 256 // SIZE)) for record in dataset[:4]], columns=4))

# %% [markdown]
# ## A Config class
#
# It is taken as it is: the class, or the file that has it, which is read and not run.


# %%
class ShapesConfig:
    NAME = "shapes"
    BACKBONE = "resnet50"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 3
    IMAGE_MIN_DIM = SIZE
    IMAGE_MAX_DIM = SIZE
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    TRAIN_ROIS_PER_IMAGE = 32
    TOP_DOWN_PYRAMID_SIZE = 64
    FPN_CLASSIF_FC_LAYERS_SIZE = 256


attributes = {name: value for name, value in vars(ShapesConfig).items() if name.isupper()}
config = to_config(attributes)
print("anchors", config.model.rpn.anchors.sizes, "input", config.data.min_size, "batch", config.train.batch_size)

# %% [markdown]
# ## An .h5 file
#
# Yours comes from Keras. This one is written by `save_matterport`, with Keras's names, and beside it the Config that
# goes with it.

# %%
if H5 is None:
    random = maskrcnn.build_model(config.model, classes=dataset.classes, data=config.data, seed=1)
    H5, CONFIG = save_matterport(random, out / "shapes.h5")
print(CONFIG.read_text())

# %%
model, opened = open_matterport(H5, config=CONFIG, classes=dataset.classes)
print(model.config.backbone.name, "with", len(model.classes), "classes:", *model.classes)

# %% [markdown]
# ## Matterport's conventions stay
#
# The image lies in the middle of a square that is black before the mean is subtracted, boxes are whole pixels, and so
# on: an opened file gives what it gave. A wide image shows the middle.

# %%
wide = shapes.load_image(0)[: SIZE // 2]
trace = maskrcnn.inspect_model(model, wide, score_threshold=0.0)
Image.fromarray(grid([wide.repeat(2, 0).repeat(2, 1), resized(trace.input.pixels, 2 * SIZE, 2 * SIZE)], columns=2))

# %% [markdown]
# ## Written back
#
# The file that our model writes opens to the same numbers.

# %%
file, beside = save_matterport(model, out / "back.h5")
again, _ = open_matterport(file, config=beside, classes=dataset.classes)
changed = maskrcnn.inspect_weights(model, again)
largest = max((d.largest for d in changed.differences if d.kind == "changed" and d.largest == d.largest), default=0.0)
print(sum(d.kind == "equal" for d in changed.differences), "tensors equal bit for bit, largest difference", largest)

# %% [markdown]
# ## Train on
#
# An `.h5` does not hold its Config, so it is first made a checkpoint of ours, which does. Then `layers="all"` is
# `frozen_stages` 0 (`"heads"` is 5, `"4+"` is 3), and `TRAIN_BN = True`, which random weights need, is `norm` bn.

# %%
convert_weights(H5, out / "converted", config=CONFIG, classes=dataset.classes)
config = opened.replace(
    **{
        "model.backbone.frozen_stages": 0,
        "model.backbone.norm": "bn",
        "data.workers": 0,
        "train.steps": STEPS,
        "train.log_every": 4,
        "train.learning_rate": 5e-4,
        "train.optimizer": "adamw",
        "train.schedule": "cosine",
        "train.trackers": (),
    }
)
run = maskrcnn.train(config, train=dataset, weights=out / "converted", out=out / "run", progress=False)
history = maskrcnn.inspect_run(out / "run")
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for name in ("rpn_score", "class", "box", "mask"):
    curve = history.curves[f"loss/{name}"]
    axes.plot(curve.steps, curve.values, label=name)
axes.set(title="losses of the first steps", xlabel="step")
_ = axes.legend()

# %% [markdown]
# A few steps from random weights: the losses fall, and nothing is found yet. [Train](train.py) shows a training to the
# end.
#
# ## What next
#
# - Every name and knob: [coming from Matterport](../docs/coming-from/matterport.md).
# - Matterport's own notebooks, step by step: [inspect data](inspect-data.py), [inspect model](inspect-model.py),
#   [inspect weights](inspect-weights.py), [nuclei](nuclei.py).
