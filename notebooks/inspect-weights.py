# %% [markdown]
# # Inspect weights
#
# You will see the numbers inside a trained network: how they are spread in each layer, which channels are dead, and
# what training changed. Broken checkpoints show here before they cost anything.

# %% tags=["parameters"]
MODEL = None  # a run, a checkpoint, another framework's file; None: that of the demo, trained where it is missing
STEPS = 700  # of that training
IMAGES, SIZE = 500, 96  # to train on
WORKERS = 2
OUT = "runs/notebooks"

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.view.sketch import heat, mosaic, resized

if MODEL is None:
    MODEL = Path(OUT) / "shapes"
    if not MODEL.exists():
        data = write_shapes(Path(OUT) / "shapes-data", train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))
        changes = {"train.steps": STEPS, "data.min_size": SIZE, "data.max_size": SIZE, "data.workers": WORKERS}
        config = maskrcnn.preset("shapes").replace(**changes, **{"train.trackers": ()})
        maskrcnn.train(config, train=data, out=MODEL)
model = maskrcnn.load_weights(MODEL)

# %% [markdown]
# ## Every layer in numbers
#
# A spread of 0 or of many times that of its neighbours, a NaN, a whole layer of zeros: each is a sign that something
# went wrong.

# %%
weights = maskrcnn.inspect_weights(model)
kernels = [layer for layer in weights.layers if layer.kind == "weight"]
print(f"{'layer':45} {'shape':18} {'mean':>8} {'std':>7} {'min':>7} {'max':>7}  dead")
for layer in kernels[:: max(1, len(kernels) // 14)]:
    numbers = f"{layer.mean:8.4f} {layer.std:7.4f} {layer.low:7.3f} {layer.high:7.3f}"
    print(f"{layer.name:45} {layer.shape!s:18} {numbers}  {len(layer.dead)}")
print(*weights.notes or ["nothing odd"], sep="\n")

# %% [markdown]
# ## Histograms
#
# Convolutions look like bells around 0. Two humps, or one bar and nothing else, would be a reason to look closer.

# %%
chosen = kernels[:: max(1, len(kernels) // 8)][:8]
figure, panels = plt.subplots(2, 4, figsize=(10, 4), layout="constrained")
for axes, layer in zip(panels.flat, chosen, strict=False):
    axes.stairs(layer.counts, layer.edges, fill=True)
    axes.set_title(layer.name.removesuffix(".weight"), fontsize=7)
    axes.set_yticks([])

# %% [markdown]
# ## What training changed
#
# Two checkpoints are compared tensor by tensor. Here the trained network and the one that it began as: the change is
# relative, 0 is equal bit for bit, 1 is as large as the tensor was.

# %%
start = maskrcnn.build_model(model.config, classes=model.classes, data=model.data, seed=0)
compared = maskrcnn.inspect_weights(start, model)
changes = {}
for difference in compared.differences:
    if difference.kind == "changed" and difference.name.endswith("weight") and np.isfinite(difference.change):
        changes.setdefault(difference.name.partition(".")[0], []).append(difference.change)
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.bar(list(changes), [float(np.median(values)) for values in changes.values()])
_ = axes.set_title("median change of the weights of each part")

# %% [markdown]
# ## The first filters
#
# The first convolution looks at pixels, so that its filters can be looked at as images. Those of a network trained long
# on photographs are edges and blobs of colour; here the upper row is still near the noise that it began as, and the
# lower one is what training has added so far: smooth already.

# %%
before, after = (one.state_dict()["backbone.conv1.weight"] for one in (start, model))
tiles = []
for kernel in [*after[:16], *(after - before)[:16]]:
    values = (kernel - kernel.min()) / (kernel.max() - kernel.min())
    tiles.append(resized((255 * values).byte().permute(1, 2, 0).numpy(), 42, 42))
Image.fromarray(mosaic(tiles, columns=16))

# %% [markdown]
# ## A broken checkpoint
#
# One channel is shut, one blown up, one number lost. The notes say where.

# %%
broken = maskrcnn.load_weights(MODEL)
with torch.no_grad():
    broken.mask_head.layers[0][0].weight[0] = 0
    broken.mask_head.layers[1][0].weight[3] *= 300
    broken.box_head.class_logits.weight[0, 0] = float("nan")
print(*maskrcnn.inspect_weights(broken).notes, sep="\n")

# %%
kernel = broken.mask_head.layers[1][0].weight.detach()[:32].abs().mean(dim=(2, 3)).numpy()
Image.fromarray(resized(heat(kernel, 0.0, float(np.quantile(kernel, 0.9))), 320, 640))

# %% [markdown]
# Rows are the channels that the layer puts out, columns those that it reads: the bright row is the one that was blown
# up.
#
# ## What next
#
# - The same for any file: `maskrcnn inspect weights MODEL [OTHER] --out weights.html`.
# - What the layers do with an image: [inspect model](inspect-model.py).
