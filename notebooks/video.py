# %% [markdown]
# # Video
#
# You will see a model run through a film, frame by frame, and a film written with what it found drawn in. The film is
# made here of moving shapes; put your own in its place.

# %% tags=["parameters"]
MODEL = None  # a run, a checkpoint, another framework's file; None: that of the demo, trained where it is missing
VIDEO = None  # a film of yours; None: shapes that move
FRAMES = 48  # of that film
STEPS = 700  # of the training
IMAGES, SIZE = 500, 96
WORKERS = 2
OUT = "runs/notebooks"

# %%
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.view.draw import grid

out = Path(OUT)
if MODEL is None:
    MODEL = out / "shapes"
    if not MODEL.exists():
        data = write_shapes(out / "shapes-data", train=IMAGES, val=IMAGES // 10, size=(SIZE, SIZE))
        changes = {"train.steps": STEPS, "data.min_size": SIZE, "data.max_size": SIZE, "data.workers": WORKERS}
        config = maskrcnn.preset("shapes").replace(**changes, **{"train.trackers": ()})
        maskrcnn.train(config, train=data, out=MODEL)
predictor = maskrcnn.Predictor.load(MODEL)

# %% [markdown]
# ## A film
#
# A circle, a square and a triangle go there and back again; where they meet, one covers the other.


# %%
def moving(frame):
    """One frame (SIZE, SIZE, 3) uint8."""
    image = Image.new("RGB", (SIZE, SIZE), (38, 44, 66))
    pen, radius, room = ImageDraw.Draw(image), SIZE * 0.17, SIZE * 0.66
    for speed, start, lane, colour, kind in (
        (1.6, 0.1, 0.24, "#e8a33d", "circle"),
        (-1.1, 0.8, 0.5, "#58b368", "square"),
        (0.7, 0.4, 0.76, "#d66a8a", "triangle"),
    ):
        x = radius + abs((start * SIZE + speed * SIZE / 96 * frame) % (2 * room) - room)  # there and back again
        y = SIZE * lane + 0.06 * SIZE * np.sin(frame / 7 + 9 * start)
        box = (x - radius, y - radius, x + radius, y + radius)
        if kind == "circle":
            pen.ellipse(box, fill=colour)
        elif kind == "square":
            pen.rectangle(box, fill=colour)
        else:
            pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return np.array(image)


Image.fromarray(grid([moving(frame).repeat(2, 0).repeat(2, 1) for frame in range(0, 24, 6)], columns=4))

# %% [markdown]
# PyAV (`pip install av`) reads and writes films. Without it the frames go through the model all the same, and no file
# is written.

# %%
try:
    import av
except ImportError:
    av = None
    print("PyAV is not installed: the frames are used as they are drawn")


def write_film(path, frames, rate=12):
    """The sides of a film are even: an odd last row or column is left out."""
    frames = list(frames)
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, width=width, height=height, pix_fmt="yuv420p")
        stream.bit_rate = 2_000_000
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_film(path):
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


# %%
if av and VIDEO is None:
    VIDEO = out / "moving.mp4"
    write_film(VIDEO, [moving(frame) for frame in range(FRAMES)])
frames = list(read_film(VIDEO)) if av else [moving(frame) for frame in range(FRAMES)]
print(len(frames), "frames of", frames[0].shape)

# %% [markdown]
# ## Through the model
#
# `stream` takes the frames and gives instances in the same order, several frames at a time.

# %%
began = time.perf_counter()
found = list(predictor.stream(frames, batch_size=4, score_threshold=0.5))
print(f"{len(found) / (time.perf_counter() - began):.0f} frames a second")

# %% [markdown]
# Every sixth frame, with what was found in it. Each frame is looked at alone: the model does not know that it was there
# before.

# %%
scale = max(1, 224 // max(frames[0].shape[:2]))
drawn = [one.draw(frame, scale=scale) for one, frame in zip(found, frames, strict=True)]
Image.fromarray(grid(drawn[:36:6], columns=3))

# %% [markdown]
# ## A film of it

# %%
if av:
    write_film(out / "found.mp4", drawn)
    print(out / "found.mp4", f"{(out / 'found.mp4').stat().st_size / 1000:.0f} kB")

# %% [markdown]
# ## Over time
#
# How many objects each frame has. Gaps are frames in which an object is covered, or missed.

# %%
for name in predictor.model.classes:
    print(f"{name:9}", "".join("#" if name in one.names else "." for one in found))

# %% [markdown]
# ## What next
#
# - A model for your film: take some of its frames, annotate them, and [train](train.py).
# - Faster: [export](../docs/how-to/export.md) to ONNX or OpenVINO.
