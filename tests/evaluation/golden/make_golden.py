"""Computes `golden.json` anew with the reference implementations, which the tests do not need.

    pip install pycocotools lvis==0.5.3 tidecv==1.0.1 opencv-python-headless
    git clone https://github.com/bowenc0221/boundary-iou-api
    PYTHONPATH=.:boundary-iou-api python tests/evaluation/golden/make_golden.py

Data and results are those of `tests/evaluation/made.py`.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

np.float = float  # type: ignore[attr-defined]  # lvis 0.5.3 and boundary-iou-api name what numpy 1.24 took away

from boundary_iou.coco_instance_api.coco import COCO as BoundaryCOCO  # noqa: E402
from boundary_iou.coco_instance_api.cocoeval import COCOeval as BoundaryEval  # noqa: E402
from lvis import LVIS, LVISEval, LVISResults  # noqa: E402
from tidecv import TIDE, Data  # noqa: E402

from tests.evaluation.made import as_coco, made_dataset, made_results  # noqa: E402

HERE = Path(__file__).parent


def boundary(file: Path, results: list[dict[str, Any]]) -> list[float]:
    truth = BoundaryCOCO(str(file), get_boundary=True, dilation_ratio=0.02)
    masks = [{name: value for name, value in result.items() if name != "bbox"} for result in results]
    evaluation = BoundaryEval(truth, truth.loadRes(masks), "boundary", dilation_ratio=0.02)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return list(evaluation.stats)


def lvis(file: Path, results: list[dict[str, Any]], kind: str) -> list[float]:
    truth = LVIS(str(file))
    evaluation = LVISEval(truth, LVISResults(truth, copy.deepcopy(results)), kind)
    evaluation.run()
    return [float(value) for value in evaluation.results.values()]


def tide(coco: dict[str, Any], results: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    truth, found = Data("truth"), Data("found")
    for image in coco["images"]:
        truth.add_image(image["id"], image["file_name"])
    for one in coco["annotations"]:
        add = truth.add_ignore_region if one["iscrowd"] else truth.add_ground_truth
        add(one["image_id"], one["category_id"], one["bbox"], one["segmentation"])
    for one in results:
        found.add_detection(one["image_id"], one["category_id"], one["score"], one["bbox"], one["segmentation"])
    run = TIDE().evaluate(truth, found, mode=TIDE.BOX if kind == "box" else TIDE.MASK)
    costs = {error.short_name: float(cost) for error, cost in run.fix_main_errors().items()}
    special = {error.short_name: float(cost) for error, cost in run.fix_special_errors().items()}
    counts = {error.short_name: count for error, count in run.count_errors().items()}
    return {"ap": float(run.ap), "costs": costs | special, "counts": counts}


def main() -> None:
    dataset = made_dataset()
    results = made_results(dataset)
    coco = as_coco(dataset)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "truth.json"
        file.write_text(json.dumps(coco))
        golden = {
            "input": [len(coco["annotations"]), len(results), sum(result["score"] for result in results)],
            "boundary": boundary(file, results),
            "lvis": {"box": lvis(file, results, "bbox"), "mask": lvis(file, results, "segm")},
            "tide": {kind: tide(coco, results, kind) for kind in ("box", "mask")},
        }
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    sys.stdout.write(f"{HERE / 'golden.json'}\n")


if __name__ == "__main__":
    main()
