# %% [markdown]
# # Coming from the TensorFlow Object Detection API
#
# You will write and read TFRecords, open a checkpoint with its `pipeline.config` and label map without TensorFlow, and
# train from that config. The checkpoint is made here, a thin Inception v2 with random weights: published ones open the
# same way.

# %% tags=["parameters"]
CHECKPOINT = None  # an unpacked model of the zoo, or a folder with model.ckpt; None: a thin one with random weights
STEPS = 150  # of training on; a demonstration, too few to learn much
IMAGES, SIZE = 40, 128
OUT = "runs/notebooks"

# %%
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image

import maskrcnn
from maskrcnn.cli import main
from maskrcnn.data.synthetic import CLASSES, write_shapes
from maskrcnn.view.draw import draw_truth, grid
from maskrcnn.weights.tensorflow.save import save_tensorflow

out = Path(OUT) / "tensorflow"
shutil.rmtree(out, ignore_errors=True)

# %% [markdown]
# ## Records
#
# `create_pet_tf_record.py` and its kin are one command, from any data set. `main` runs a command as it is typed in a
# shell.

# %%
write_shapes(out / "shapes", train=IMAGES, val=max(2, IMAGES // 10), size=(SIZE, SIZE))
main(["convert", "data", str(out / "shapes"), str(out / "records"), "--to", "tfrecord"])
print(*sorted(path.name for path in (out / "records").iterdir()), sep="\n")
print((out / "records" / "label_map.pbtxt").read_text())

# %% [markdown]
# Records open like any data set; masks may be PNG or numerical.

# %%
dataset = maskrcnn.open_dataset(out / "records")
print(dataset.summary())
Image.fromarray(grid([draw_truth(record, dataset, scale=max(1, 256 // SIZE)) for record in dataset[:4]], columns=4))

# %% [markdown]
# ## A checkpoint
#
# Yours comes from TensorFlow. This one is written by `save_tensorflow`, with the names of TensorFlow 1, and beside it
# the `pipeline.config` and the label map.

# %%
thin = {"model.backbone.width": 0.25, "model.backbone.min_width": 8}
if CHECKPOINT is None:
    small = {"data.min_size": SIZE, "data.max_size": SIZE, "model.rpn.channels": 64}
    config = maskrcnn.preset("mask_rcnn_inception_v2_coco").replace(**thin, **small)
    random = maskrcnn.build_model(config.model, classes=CLASSES, data=config.data, seed=1)
    CHECKPOINT = out / "model"
    save_tensorflow(random, CHECKPOINT / "model.ckpt")
print(*sorted(path.name for path in Path(CHECKPOINT).iterdir()), sep="\n")

# %%
model = maskrcnn.load_weights(CHECKPOINT)
print(model.classes)
print(model.config.backbone.name, "of width", model.config.backbone.width)
print("anchors", model.config.rpn.anchors.sizes, "ratios", model.config.rpn.anchors.ratios)

# %% [markdown]
# `Predictor.load` takes the same path, and frozen graphs and SavedModels too.

# %%
instances = maskrcnn.Predictor(model)(dataset[0], score_threshold=0.0)
print(len(instances), "boxes, as a network with random weights gives them:", instances.boxes[:2].round(1).tolist())

# %% [markdown]
# ## There and back
#
# Written again, the checkpoint has the same numbers, bit for bit.

# %%
save_tensorflow(model, out / "again" / "model.ckpt")
again = maskrcnn.load_weights(out / "again")
pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
print(all(torch.equal(one, other) for one, other in pairs))

# %% [markdown]
# ## pipeline.config
#
# It is read as a config, and names its data. `convert config` edits it; here it gets the records and the checkpoint.

# %%
main(
    [
        *["convert", "config", str(Path(CHECKPOINT) / "pipeline.config"), str(out / "mine.config")],
        *["--train-records", *map(str, sorted((out / "records").glob("train.record*")))],
        *["--val-records", *map(str, sorted((out / "records").glob("val.record*")))],
        *[
            "--label-map",
            str(out / "records" / "label_map.pbtxt"),
            "--checkpoint",
            str(Path(CHECKPOINT) / "model.ckpt"),
        ],
    ]
)
print("\n".join((out / "mine.config").read_text().splitlines()[:24]))

# %% [markdown]
# ## Train from it
#
# What was `model_main.py --pipeline_config_path=mine.config --model_dir=run`. Every field of the config is an option.

# %%
options = {
    "model.backbone.norm": "bn",
    "model.rpn.post_nms_train": 100,
    "model.box.samples_per_image": 16,
    "data.workers": 0,
    "train.batch_size": 2,
    "train.steps": STEPS,
    "train.optimizer": "adamw",
    "train.schedule": "cosine",
    "train.learning_rate": 5e-4,
    "train.warmup_steps": 5,
    "train.log_every": 15,
    "train.evaluate_every": 0,
}
if Path(CHECKPOINT) == out / "model":
    options |= thin
typed = [word for name, value in options.items() for word in (f"--{name}", str(value))]
code = main(["train", str(out / "mine.config"), "--out", str(out / "run"), *typed])
print("exit code", code)

# %%
history = maskrcnn.inspect_run(out / "run")
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for name in ("rpn_score", "class", "box", "mask"):
    curve = history.curves[f"loss/{name}"]
    axes.plot(curve.steps, curve.values, label=name)
axes.set(title="losses of the first steps", xlabel="step")
_ = axes.legend()

# %% [markdown]
# A few steps from random weights: the losses fall, and little is found yet. [Train](train.py) shows a training to the
# end.
#
# ## What next
#
# - Every command and knob, and the six steps from Faster to Mask R-CNN: [coming from
#   TensorFlow](../docs/coming-from/tensorflow.md).
# - Look at your records: [inspect data](inspect-data.py). Take a model to where there is no PyTorch:
#   [export](../docs/how-to/export.md).
