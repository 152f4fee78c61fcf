# %% [markdown]
# # Demo
#
# You will see a trained Mask R-CNN find squares, circles and triangles in images that it has never seen: a box, a
# class, a score and a mask for each object. Then you choose among them, count, cut out, and save.

# %% tags=["parameters"]
MODEL = None  # a run, a checkpoint, another framework's file; None: a small one, trained here where it is missing
IMAGE = None  # a photo of yours; None: shapes are drawn
STEPS = 700  # of that training
IMAGES, SIZE = 500, 96  # to train on
WORKERS = 2
OUT = "runs/notebooks"

# %%
from pathlib import Path

import numpy as np
from PIL import Image

import maskrcnn
from maskrcnn.data.synthetic import draw_shapes, write_shapes
from maskrcnn.view.draw import grid

# %% [markdown]
# ## A model
#
# [Train on your own data](train.py) explains what happens here. It is done once, and takes minutes.

# %%
if MODEL is None:
    MODEL = Path(OUT) / "shapes"
    if not MODEL.exists():
        data = write_shapes(Path(OUT) / "shapes-data", train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))
        changes = {"train.steps": STEPS, "data.min_size": SIZE, "data.max_size": SIZE, "data.workers": WORKERS}
        config = maskrcnn.preset("shapes").replace(**changes, **{"train.trackers": ()})
        maskrcnn.train(config, train=data, out=MODEL)
predictor = maskrcnn.Predictor.load(MODEL)
print(predictor.model.classes)

# %% [markdown]
# ## One image
#
# A path, an array, a PIL image or a tensor: all are taken, of any size.

# %%
image = draw_shapes((SIZE, SIZE), np.random.default_rng(18))[0] if IMAGE is None else np.array(Image.open(IMAGE))
instances = predictor(image, score_threshold=0.5)
for name, score, box in zip(instances.names, instances.scores, instances.boxes, strict=True):
    print(f"{name:10} {score:.2f}  x {box[0]:.0f} to {box[2]:.0f}, y {box[1]:.0f} to {box[3]:.0f}")


# %%
def shown(pixels):
    """As a picture; of photographs a smaller one."""
    image = Image.fromarray(pixels)
    image.thumbnail((1400, 1400))
    return image


shown(instances.draw(image, scale=max(1, 384 // max(image.shape[:2]))))

# %% [markdown]
# ## Masks
#
# Each object has its own mask, as large as the image. Here they cut the objects out.

# %%
cut = [np.where(mask[..., None], image, 255).astype(np.uint8) for mask in instances.masks]
scale = max(1, 192 // max(image.shape[:2]))
shown(grid([one.repeat(scale, 0).repeat(scale, 1) for one in (image, *cut)], columns=4))

# %% [markdown]
# ## Choose
#
# A lower threshold shows what the model was less sure of; `filter` chooses by score, class and size.

# %%
everything = predictor(image, score_threshold=0.05)
largest = everything.filter(score=0.5, min_area=image.shape[0] * image.shape[1] / 20)
print(len(everything), "with a score of 0.05 or more,", len(largest), "sure and large ones")

# %% [markdown]
# ## Many images
#
# `stream` takes folders and anything that yields images, and decodes ahead while the network works.

# %%
scenes = [draw_shapes((SIZE, SIZE), np.random.default_rng(seed))[0] for seed in range(20, 26)]
found = list(predictor.stream(scenes, score_threshold=0.5))
scale = max(1, 256 // SIZE)
Image.fromarray(grid([one.draw(scene, scale=scale) for one, scene in zip(found, scenes, strict=True)], columns=3))

# %% [markdown]
# ## Save
#
# COCO's format is read by most tools, and by `maskrcnn evaluate`.

# %%
import json

results = [entry for number, one in enumerate(found) for entry in one.to_coco(image_id=number)]
path = Path(OUT) / "found.json"
path.write_text(json.dumps(results))
print(path, "has", len(results), "objects")
print(str(results[:1])[:160], "...")

# %% [markdown]
# ## What next
#
# - A model for what you want to find: [train on your own data](train.py).
# - Films: [video](video.py). Models of other frameworks: [Matterport](from-matterport.py),
#   [TensorFlow](from-tensorflow.py), [torchvision and Detectron2](from-torchvision-and-detectron2.py).
# - From the command line: `maskrcnn predict MODEL PHOTOS --out found`.
