"""Find objects with an exported model: ONNX Runtime and numpy, neither PyTorch nor maskrcnn.

    maskrcnn export runs/x model.onnx
    pip install onnxruntime numpy pillow
    python onnx_numpy.py model.onnx photo.jpg found.png

The image: what Pillow reads, or an array (H, W, C) in a .npy. A .png shows the masks, a .npz holds all results.
"""

import argparse
import json

import numpy as np
import onnxruntime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=".onnx file that `maskrcnn export` wrote")
    parser.add_argument("image")
    parser.add_argument("out", nargs="?", help=".png or .npz")
    parser.add_argument("--score", type=float, help="weakest score; default: the model's own")
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    info = json.loads(session.get_modelmeta().custom_metadata_map["maskrcnn"])
    image = read(arguments.image)
    boxes, scores, labels, masks = predict(session, info, image, arguments.score)
    for box, score, label, mask in zip(boxes, scores, labels, masks, strict=True):
        print(info["classes"][label], f"{score:.3f}", *(f"{side:.1f}" for side in box), f"{mask.sum()} pixels")
    if arguments.out and arguments.out.endswith(".npz"):
        np.savez(arguments.out, boxes=boxes, scores=scores, labels=labels, masks=masks)
    elif arguments.out:  # needs RGB
        draw(image, masks, arguments.out)


def read(path):
    """(H, W, C): what the model was trained on, uint8 RGB unless its metadata say float32."""
    if path.endswith(".npy"):
        return np.load(path)
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def predict(session, info, image, score=None):
    """Boxes (N, 4) x0 y0 x1 y1 in the image's pixels, scores (N,), labels (N,), masks (N, H, W) bool."""
    height, width = image.shape[:2]
    inputs = {"score_threshold": np.array(info["score_threshold"] if score is None else score, np.float32)}
    scale, count = 1.0, info["batch"] or 1  # a graph for several images at a time gets the same one
    if info["takes"] == "tensor":  # a graph for all sizes: resized and padded here, boxes in that frame
        data = info["config"]["data"]
        content, padded = sizes(height, width, data)
        image = resize(image, content, data["interpolation"] in ("antialias", "pillow"), info["image_dtype"] == "uint8")
        image = np.pad(image, [(0, padded[0] - content[0]), (0, padded[1] - content[1]), (0, 0)])
        inputs["sizes"] = np.array([content] * count, np.int64)
        scale = np.tile([width / content[1], height / content[0]], 2)
    inputs["images"] = np.repeat(image.transpose(2, 0, 1)[None].astype(info["image_dtype"]), count, axis=0)
    found = {out.name: value[0] for out, value in zip(session.get_outputs(), session.run(None, inputs), strict=True)}
    valid = found["valid"]  # there are always as many rows; the rest is zeros
    boxes = np.minimum(found["boxes"][valid] * scale, [width, height, width, height]).astype(np.float32)
    masks = np.zeros((len(boxes), height, width), bool)
    if "masks" in found:
        for mask, small, box in zip(masks, found["masks"][valid], boxes, strict=True):
            paste(mask, small, box, info["mask_threshold"])
    return boxes, found["scores"][valid], found["labels"][valid], masks


def sizes(height, width, data):
    """(height, width) to resize to, and to pad to."""
    scale = data["max_size"] / max(height, width)
    if data["resize"] == "short":
        scale = min(scale, data["min_size"] / min(height, width))
    content = [max(1, int(side * scale + 0.5 * (data["size_rounding"] == "nearest"))) for side in (height, width)]
    padded = [data["max_size"]] * 2 if data["resize"] == "square" else content
    return content, [max(64, -(-side // data["pad_multiple"]) * data["pad_multiple"]) for side in padded]


def resize(image, size, antialias, whole):
    """Bilinear, as two products with a matrix of weights: (H, W, C) -> (*size, C)."""

    def weights(before, after):  # (after, before): how much of each pixel goes into each new one
        ratio, support = before / after, max(before / after, 1) if antialias else 1
        centre = (np.arange(after)[:, None] + 0.5) * ratio
        matrix = np.maximum(1 - abs(np.arange(before) + 0.5 - centre) / support, 0)
        return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)

    rows = np.tensordot(weights(image.shape[0], size[0]), image.astype(np.float32), 1)  # (h, W, C)
    resized = np.tensordot(weights(image.shape[1], size[1]), rows, (1, 1)).transpose(1, 0, 2)
    return np.floor(resized + 0.501).astype(np.uint8) if whole else resized


def paste(mask, small, box, threshold):
    """Fill `mask` (H, W) where the probabilities `small` (M, M), stretched over the box, reach the threshold."""
    cells, padded = len(small), np.pad(small, 1)
    left, top = np.maximum(np.floor(box[:2] - (box[2:] - box[:2]) / cells), 0).astype(int)
    right, bottom = np.minimum(np.ceil(box[2:] + (box[2:] - box[:2]) / cells), mask.shape[::-1]).astype(int)

    def places(first, last, start, length):  # of each pixel, among the padded cells
        place = np.clip((np.arange(first, last) + 0.5 - start) / max(length, 1e-6) * cells + 0.5, 0, cells + 1)
        low = np.minimum(place.astype(int), cells)
        return low, place - low

    low, part = places(top, bottom, box[1], box[3] - box[1])
    rows = padded[low] * (1 - part)[:, None] + padded[low + 1] * part[:, None]
    low, part = places(left, right, box[0], box[2] - box[0])
    mask[top:bottom, left:right] = rows[:, low] * (1 - part) + rows[:, low + 1] * part >= threshold


def draw(image, masks, path):
    from PIL import Image

    picture, random = image.astype(np.float32), np.random.default_rng(0)
    for mask in masks[::-1]:  # the best on top
        picture[mask] = 0.5 * picture[mask] + 0.5 * random.integers(64, 256, 3)
    Image.fromarray(picture.astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
