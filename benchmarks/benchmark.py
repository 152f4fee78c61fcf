"""Our speed next to torchvision's `maskrcnn_resnet50_fpn`: one process, interleaved, same weights, same image.

python benchmarks/benchmark.py [infer|export|train|roi_align|paste|evaluate|loader|all ...] [--repeat N] [--data FOLDER]

infer      from a 640 x 480 photograph to 100 masks in its pixels, the network at 800 x 1066; the whole call and by part
export     the same whole call by exported files: OpenVINO in float32 and int8, ONNX Runtime; CPU only
train      one step: forward, backward, SGD
roi_align  RoIAlign alone, forward and with the gradient
paste      100 predicted masks on a full-HD image, to pixels and to RLE
evaluate   COCO's 12 numbers for boxes and masks of 1,000 images, against pycocotools, which runs once: 30 seconds
loader     from JPEG and polygons to training batches; needs --data, photos with masks

Inference, float32 exports, RoIAlign, pasting and evaluation are timed only after both sides gave the same answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import _evaluation
import _export
import _infer
import _loader
import _masks
import _roi_align
import _train
import torch
from _timing import Row, machine, show, write

from maskrcnn import MaskRCNNError
from maskrcnn.memory import keep_memory
from maskrcnn.predict.devices import choose_device

PARTS = ("infer", "export", "train", "roi_align", "paste", "evaluate", "loader")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all"], default="all", help="what to measure")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--repeat", type=positive, help="runs of each side; default 7 on a CPU, 30 on a GPU")
    parser.add_argument("--threads", type=positive, help="threads of PyTorch; default: its own choice")
    parser.add_argument("--photo", type=positive, nargs=2, default=(480, 640), metavar=("H", "W"), help="pixels")
    parser.add_argument("--sizes", type=positive, nargs=2, default=(800, 1333), metavar=("MIN", "MAX"),
                        help="shorter side of the network's input, and longer side at most")  # fmt: skip
    parser.add_argument("--train-side", type=positive, default=512, help="side of the square training images")
    parser.add_argument("--evaluate-images", type=positive, default=1000, help="images of the evaluation")
    parser.add_argument("--data", type=Path, help="a data set with masks, for the loader")
    parser.add_argument("--keep-memory", action="store_true",
                        help="for both sides, what our commands set for themselves: maskrcnn.memory")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    return parser.parse_args()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return number


def main() -> None:
    options = parse()
    try:
        device = choose_device(options.device)
    except MaskRCNNError as error:
        sys.exit(str(error))
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.keep_memory and not keep_memory():
        sys.exit("--keep-memory needs Linux with glibc, and not MASKRCNN_KEEP_MEMORY=0; leave it out")
    repeat = options.repeat or (7 if device.type == "cpu" else 30)
    jobs: dict[str, Callable[[], list[Row]]] = {
        "infer": lambda: _infer.run(device, repeat, tuple(options.photo), tuple(options.sizes)),
        "export": lambda: _export.run(repeat, tuple(options.photo), tuple(options.sizes)),
        "train": lambda: _train.run(device, repeat, options.train_side),
        "roi_align": lambda: _roi_align.run(device, repeat),
        "paste": lambda: _masks.run(device, repeat),
        "evaluate": lambda: _evaluation.run(repeat, options.evaluate_images),
        "loader": lambda: _loader.run(device, repeat, options.data, tuple(options.sizes)),
    }
    wanted = [part for part in PARTS if part in options.parts or "all" in options.parts]
    if "loader" in wanted and not options.data:
        if "loader" in options.parts:
            sys.exit("the loader needs photos: give --data FOLDER")
        wanted.remove("loader")
    rows: list[Row] = []
    for part in wanted:
        print(f"{part}, {repeat} runs of each side ...", file=sys.stderr, flush=True)
        rows += jobs[part]()
    about = machine(device) | {"memory": "kept by both" if options.keep_memory else "as it comes"}
    show(rows, about)
    if options.json:
        write(options.json, rows, about)


if __name__ == "__main__":
    main()
