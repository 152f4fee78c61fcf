"""The command `evaluate`: a model or a results file in, a table on the terminal and files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.errors import ConfigError, DataError

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset
    from maskrcnn.evaluation.bootstrap import Difference
    from maskrcnn.evaluation.findings import Findings
    from maskrcnn.predict.tiles import Tiling


def evaluate(given: Any) -> None:
    """Measure, explain and compare, as far as it is asked for."""
    from maskrcnn.cli.measured import measured_data, tiling_of
    from maskrcnn.cli.output import say, write_json
    from maskrcnn.evaluation.findings import score

    limits = given.max_detections
    if limits and min(limits) < 1:
        raise ConfigError(f"--max-detections {min(limits)} must be at least 1, such as 1 10 100")
    if given.draws is not None and given.draws < 1:
        raise ConfigError(f"--draws {given.draws} must be at least 1, such as 1000")
    _check_places(given)
    tiling = tiling_of(given)
    dataset, notes = measured_data(given)
    for note in notes:
        say(f"note: {note}")
    findings = _found(given, given.model, dataset, tiling)
    other = _found(given, given.compare, dataset, tiling) if given.compare else None
    metrics = score(
        findings,
        dataset,
        max_detections=limits,
        boundary=given.boundary,
        lvis=given.lvis,
        voc=given.voc,
        by_count=given.explain,
    )
    print(metrics)
    explanation = comparison = None
    if given.explain:
        from maskrcnn.evaluation.bootstrap import SAMPLES
        from maskrcnn.evaluation.explain import explain_findings

        explanation = explain_findings(findings, dataset, samples=given.draws or SAMPLES)
        print(f"\n{explanation}")
    if other is not None:
        comparison = _compared(given, findings, other, dataset)
    if given.json:
        write_json(Path(given.json), metrics.to_dict())
    if given.out:
        from maskrcnn.evaluation.files import write_evaluation

        files = write_evaluation(given.out, metrics, findings=findings, explanation=explanation, comparison=comparison)
        if explanation is not None:
            from maskrcnn.view.evaluation import evaluation_report

            page, names = Path(given.out) / "report.html", (given.model, given.compare or "")
            try:
                evaluation_report(explanation, metrics, dataset, page, comparison=comparison, names=names)
            except OSError as error:
                message = f"cannot write: {error.strerror or error}; choose another --out"
                raise DataError(message, path=page) from error
            files.append(page)
        say(f"{', '.join(file.name for file in files)} in {given.out}")


def _check_places(given: Any) -> None:
    """Raises `ConfigError` or `DataError`, before the long work, where a file stands in the way of what is to be
    written."""
    from maskrcnn.benchmark.report import check_writable

    if given.out and (taken := next((p for p in (Path(given.out), *Path(given.out).parents) if p.is_file()), None)):
        raise ConfigError(f"--out {given.out}: {taken} is a file; choose another folder")
    if given.json:
        check_writable(given.json)


def _found(given: Any, model: str, dataset: Dataset, tiling: Tiling | None) -> Findings:
    """What the model, or the results file, found."""
    from maskrcnn.cli.measured import open_predictor, tell_tiling
    from maskrcnn.evaluation.evaluate import find

    if model.lower().endswith(".json"):
        return find(model, dataset)
    asked = given.clone()
    asked.model = model
    predictor = open_predictor(asked)
    tell_tiling(predictor, tiling)
    return find(predictor, dataset, tiling=tiling)


def _compared(given: Any, first: Findings, second: Findings, dataset: Dataset) -> dict[str, Difference]:
    from maskrcnn.evaluation.explain import compare_findings
    from maskrcnn.evaluation.explained_text import difference_line

    comparison = compare_findings(first, second, dataset, samples=given.draws)
    print(f"\n{given.model} -> {given.compare}")
    for kind, difference in comparison.items():
        print(difference_line(kind, difference))
    return comparison
