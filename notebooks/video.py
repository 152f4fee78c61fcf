# %% [markdown]
# # Video
#
# You will see a model run through a film, its objects followed and counted, and films written with what was found:
# drawn in, and in colour where the rest is grey. The film is made here of moving shapes; put your own in its place. It
# needs `pip install 'maskrcnn[video]'`.

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
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import maskrcnn
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.predict.film import FilmWriter, read_film
from maskrcnn.predict.results import save_results
from maskrcnn.predict.track import track_items
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

# %%
if VIDEO is None:
    writer = FilmWriter(out / "moving.mp4", rate=12)
    for frame in range(FRAMES):
        writer.add(moving(frame), seconds=frame / 12)
    VIDEO = writer.close()
    print(VIDEO, f"{VIDEO.stat().st_size / 1000:.0f} kB")

# %% [markdown]
# ## Through the model
#
# `stream` takes files, films, cameras, arrays, in any mix, and gives the instances of each image or frame in order.
# Each frame is looked at alone: the model does not know what was there before.

# %%
began = time.perf_counter()
found = list(predictor.stream(VIDEO, score_threshold=0.5))
print(f"{len(found) / (time.perf_counter() - began):.0f} frames a second")
print(found[-1].place.seconds, "seconds:", found[-1].names)

# %% [markdown]
# ## Tracked
#
# `track` gives each object a number that it keeps, as long as it is found again where it is expected. A line in the
# middle of the picture counts who crosses it. (The size of the film is that of its first frame.)

# %%
height, width = found[0].size
tracking = maskrcnn.Tracking(lines={"middle": (width / 2, 0, width / 2, height)})
tracked = list(predictor.track(VIDEO, tracking))
counts = tracked[-1].tracks.counts
print("objects:", counts.objects)
for line in counts.lines:
    print(line.name, "to the left", line.to_left, "to the right", line.to_right)

# %% [markdown]
# A sign an object and frame. Gaps are frames in which it is covered, or missed; an object that gets a second number was
# away for too long, or taken for another class.

# %%
names = {number: name for one in tracked for number, name in zip(one.tracks.ids.tolist(), one.names, strict=True)}
for number, name in sorted(names.items()):
    print(f"{number:3} {name:9}", "".join("#" if number in one.tracks.ids else "." for one in tracked))

# %% [markdown]
# The frames, with numbers, trails and the line; a colour is an object, not a class.

# %%
scale = max(1, 320 // max(height, width))
pictures = [frame.pixels() for frame in islice(read_film(VIDEO), 0, 36)]
drawn = [one.draw(pixels, scale=scale) for one, pixels in zip(tracked, pictures, strict=False)]
Image.fromarray(grid(drawn[1::7], columns=2))

# %% [markdown]
# ## Films and tables of it
#
# The same in one command is `maskrcnn predict MODEL FILM --track --save overlay,splash,mot,counts`; the sound of the
# film is kept. `mot` is what the tools of the MOT challenge read, and `results.jsonl` has a line of JSON a frame.

# %%
items = predictor.items(VIDEO)
pairs = predictor.stream_items(items, score_threshold=tracking.weak_score)
saved = save_results(track_items(pairs, tracking), out / "video", ["overlay", "splash", "mot", "counts"])
print(saved)
for path in saved.paths:
    print(path, f"{path.stat().st_size / 1000:.1f} kB")

# %%
splashed = [frame.pixels() for frame in islice(read_film(out / "video" / f"{Path(VIDEO).stem}_splash.mp4"), 20, 21)]
Image.fromarray(grid([picture.repeat(scale, 0).repeat(scale, 1) for picture in splashed], columns=1))

# %% [markdown]
# ## What next
#
# - A model for your film: take some of its frames, annotate them, and [train](train.py).
# - [Tracking](../docs/tracking.md): methods, masks compared instead of boxes, lines and zones.
# - Faster: [export](../docs/how-to/export.md) to ONNX or OpenVINO.
