# %% [markdown]
# # Coming from torchvision and Detectron2
#
# You will open a checkpoint of each, see that it finds the same objects as before, train it further, and take it back.
# The checkpoints are made here, small ones that know shapes; yours open the same way.

# %% tags=["parameters"]
MODEL = None  # a run that both can express; None: that of the demo, trained where it is missing
STEPS, MORE_STEPS = 700, 60  # of that training, and of training on
IMAGES, SIZE = 500, 96  # to train on
WORKERS = 2
OUT = "runs/notebooks"

# %%
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.view.draw import grid
from maskrcnn.weights.torchvision import from_torchvision, to_torchvision

out = Path(OUT)
base = {"train.trackers": (), "data.min_size": SIZE, "data.max_size": SIZE, "data.workers": WORKERS}
data = out / "shapes-data"
if not data.exists():
    write_shapes(data, train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))
if MODEL is None:
    MODEL = out / "shapes"
    if not MODEL.exists():
        maskrcnn.train(maskrcnn.preset("shapes").replace(**base, **{"train.steps": STEPS}), train=data, out=MODEL)
demo = maskrcnn.load_weights(MODEL)
val = maskrcnn.open_dataset(data, split="val")
image = np.array(Image.open(max(val[:20], key=len).path))

# %% [markdown]
# ## A detector of torchvision
#
# Built from its own parts: ResNet-18, a narrow pyramid with batch norm. It gets the weights of the demo's model, which
# `to_torchvision` gives torchvision's names; a warning tells what torchvision does in another way.

# %%
wide = demo.config.fpn.channels
stages = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
theirs = MaskRCNN(
    BackboneWithFPN(resnet18(), stages, [64, 128, 256, 512], wide, norm_layer=nn.BatchNorm2d),
    min_size=SIZE,
    max_size=SIZE,
    rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (96,), (128,)), ((0.5, 1.0, 2.0),) * 5),
    box_head=TwoMLPHead(wide * 49, demo.config.box.fully_connected_channels),
    box_predictor=FastRCNNPredictor(demo.config.box.fully_connected_channels, len(demo.classes) + 1),
    mask_head=MaskRCNNHeads(wide, (demo.config.mask.channels,) * 4, 1, norm_layer=nn.BatchNorm2d),
    mask_predictor=MaskRCNNPredictor(demo.config.mask.channels, demo.config.mask.channels, len(demo.classes) + 1),
).eval()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print(theirs.load_state_dict(to_torchvision(demo)))
print(*(warning.message for warning in said), sep="\n")

# %% [markdown]
# ## What it finds, in torchvision and here
#
# `from_torchvision` takes the object with its sizes, anchors and thresholds. A `.pth` of a state dict opens with
# `load_weights`.

# %%
with torch.inference_mode():
    there = theirs([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]
ours = from_torchvision(theirs, classes=demo.classes)
here = maskrcnn.Predictor(ours)(image, score_threshold=0.05)
count = min(len(there["scores"]), len(here))
print(f"{len(there['scores'])} found in torchvision, {len(here)} here")
print(
    f"boxes differ by at most {np.abs(there['boxes'][:count].numpy() - here.boxes[:count]).max(initial=0):.5f} pixels"
)
print(f"scores by at most {np.abs(there['scores'][:count].numpy() - here.scores[:count]).max(initial=0):.6f}")

# %%
strong = here.filter(score=0.5)
masks = (there["masks"][: len(strong), 0] >= 0.5).any(dim=0).numpy()  # theirs, all in one
plain = np.where(masks[..., None], image, image // 4).astype(np.uint8)
Image.fromarray(grid([plain.repeat(3, 0).repeat(3, 1), strong.draw(image, scale=3)], columns=2))

# %% [markdown]
# Left what torchvision's masks cover, right ours with names.
#
# ## Train on
#
# A file is a place to start from, like a run of ours. Rows of known classes are kept, and the network keeps its
# conventions.

# %%
file = out / "torchvision" / "model.pth"
file.parent.mkdir(parents=True, exist_ok=True)
torch.save(theirs.state_dict(), file)
config = maskrcnn.Config(model=ours.config, data=ours.data).replace(
    **base,
    **{
        "model.rpn.pre_nms_train": 400,
        "model.rpn.post_nms_train": 200,
        "model.box.samples_per_image": 64,
        "train.steps": MORE_STEPS,
        "train.batch_size": 8,
        "train.optimizer": "adamw",
        "train.learning_rate": 5e-4,
        "train.schedule": "cosine",
        "train.ema_decay": 0.95,
        "train.evaluate_every": 0.0,
    },
)
shutil.rmtree(out / "torchvision-run", ignore_errors=True)
before = maskrcnn.evaluate(ours, val, progress=False)
run = maskrcnn.train(config, train=data, weights=file, out=out / "torchvision-run", progress=False)
print(f"mask AP {before.mask['ap']:.3f} before, {run.metrics['mask']['ap']:.3f} after {MORE_STEPS} steps")

# %% [markdown]
# ## A checkpoint of Detectron2
#
# Its names are others, and its settings lie in a YAML file beside. Here the same weights are written as Detectron2
# would.

# %%
PLACES = (
    (r"backbone\.conv1", r"backbone.bottom_up.stem.conv1"),
    (r"backbone\.bn1", r"backbone.bottom_up.stem.conv1.norm"),
    (r"backbone\.layer(\d)\.(\d)\.downsample\.0", r"backbone.bottom_up.res\1.\2.shortcut"),
    (r"backbone\.layer(\d)\.(\d)\.downsample\.1", r"backbone.bottom_up.res\1.\2.shortcut.norm"),
    (r"backbone\.layer(\d)\.(\d)\.conv(\d)", r"backbone.bottom_up.res\1.\2.conv\3"),
    (r"backbone\.layer(\d)\.(\d)\.bn(\d)", r"backbone.bottom_up.res\1.\2.conv\3.norm"),
    (r"fpn\.(lateral|output)\.(\d)\.0", r"backbone.fpn_\1<\2>"),
    (r"fpn\.(lateral|output)\.(\d)\.1", r"backbone.fpn_\1<\2>.norm"),
    (r"rpn\.convolutions\.0", r"proposal_generator.rpn_head.conv"),
    (r"rpn\.objectness", r"proposal_generator.rpn_head.objectness_logits"),
    (r"rpn\.deltas", r"proposal_generator.rpn_head.anchor_deltas"),
    (r"box_head\.fully_connected\.0", r"roi_heads.box_head.fc1"),
    (r"box_head\.fully_connected\.1", r"roi_heads.box_head.fc2"),
    (r"box_head\.class_logits", r"roi_heads.box_predictor.cls_score"),
    (r"box_head\.box_deltas", r"roi_heads.box_predictor.bbox_pred"),
    (r"mask_head\.layers\.4", r"roi_heads.mask_head.deconv"),
    (r"mask_head\.layers\.(\d)\.0", r"roi_heads.mask_head.mask_fcn{\1}"),
    (r"mask_head\.layers\.(\d)\.1", r"roi_heads.mask_head.mask_fcn{\1}.norm"),
    (r"mask_head\.logits", r"roi_heads.mask_head.predictor"),
)


def renamed(name):
    place, _, last = name.rpartition(".")
    for pattern, replacement in PLACES:
        if re.fullmatch(pattern, place):
            place = re.sub(pattern, replacement, place)
            break
    place = re.sub(r"\.res(\d)\.", lambda found: f".res{int(found[1]) + 1}.", place)
    place = re.sub(r"<(\d)>", lambda found: str(int(found[1]) + 2), place)
    return re.sub(r"\{(\d)\}", lambda found: str(int(found[1]) + 1), place) + f".{last}"


state = {renamed(name): value for name, value in demo.state_dict().items() if name not in ("mean", "std")}
print(*list(state)[:3], *list(state)[-3:], sep="\n")

# %% [markdown]
# The config, as Detectron2's training leaves it beside the weights: only what differs from its own defaults.

# %%
heads, pooled = demo.config.box, {"POOLER_SAMPLING_RATIO": 0, "POOLER_TYPE": "ROIAlignV2"}
settings = {
    "_BASE_": "Base-RCNN-FPN.yaml",
    "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TEST": SIZE, "MAX_SIZE_TEST": SIZE, "MIN_SIZE_TRAIN": [SIZE]},
    "MODEL": {
        "MASK_ON": True,
        "PIXEL_MEAN": list(demo.config.image_mean),
        "PIXEL_STD": list(demo.config.image_std),
        "RESNETS": {"DEPTH": 18, "NORM": "BN", "STRIDE_IN_1X1": False, "RES2_OUT_CHANNELS": 64},
        "FPN": {"OUT_CHANNELS": wide, "NORM": "BN"},
        "ANCHOR_GENERATOR": {"SIZES": [list(sizes) for sizes in demo.config.rpn.anchors.sizes]},
        "RPN": {"POST_NMS_TOPK_TEST": demo.config.rpn.post_nms_test, "PRE_NMS_TOPK_TEST": demo.config.rpn.pre_nms_test},
        "ROI_HEADS": {"NUM_CLASSES": len(demo.classes)},
        "ROI_BOX_HEAD": {"FC_DIM": heads.fully_connected_channels, **pooled},
        "ROI_MASK_HEAD": {"CONV_DIM": demo.config.mask.channels, "NORM": "BN", **pooled},
    },
}
folder = out / "detectron2"
folder.mkdir(parents=True, exist_ok=True)
torch.save({"model": state}, folder / "model_final.pth")
(folder / "config.yaml").write_text(yaml.safe_dump(settings))
print(*(folder / "config.yaml").read_text().splitlines()[:12], "...", sep="\n")

# %%
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    model = maskrcnn.load_weights(folder / "model_final.pth", classes=demo.classes)
print(*[warning.message for warning in said] or ["no warning"], sep="\n")
again, before = maskrcnn.Predictor(model)(image, 0.5), maskrcnn.Predictor(demo)(image, 0.5)
for one, other in zip(before, again, strict=False):
    far = np.abs(one.boxes - other.boxes).max()
    read = f"{other.names[0]:9} {other.scores[0]:.3f}"
    print(f"{one.names[0]:9} {one.scores[0]:.3f}, from Detectron2's file {read}, {far:.3f} pixels off")

# %%
Image.fromarray(grid([before.draw(image, scale=3), again.draw(image, scale=3)], columns=2))

# %% [markdown]
# ## What next
#
# - Every name and knob: [torchvision](../docs/coming-from/torchvision.md),
#   [Detectron2](../docs/coming-from/detectron2.md).
# - From the command line: `maskrcnn predict model_final.pth photo.jpg`, `maskrcnn train DATA --weights
#   model_final.pth`.
# - What training changed in the weights: [inspect weights](inspect-weights.py).
