"""What is said where a detector's file lacks tensors: by the file's own names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from maskrcnn.errors import WeightsError


@contextlib.contextmanager
def whole(framework: str, names: Mapping[str, str], known: Mapping[str, str], where: str = "") -> Iterator[None]:
    """A `WeightsError` from inside that only lacks tensors says so by their names in the file.

    Args:
        framework: that wrote the file.
        names: our name of each tensor in the file -> its name there.
        known: our name of a layer -> its name in every file of the framework.
        where: what begins the sentence, where no `weights_of` is around.
    """
    try:
        yield
    except WeightsError as error:
        gone = [name for name in error.missing if name not in names]
        if not gone or error.unexpected or len(gone) < len(error.missing):
            raise
        theirs = [_theirs(name, names, known) for name in gone]
        raise lacking(framework, theirs, error.missing, where) from error


def lacking(framework: str, theirs: list[str], missing: Sequence[str], where: str = "") -> WeightsError:
    """The sentence, with the first of the file's names; `missing` is for the error's attribute."""
    more = f" and {len(theirs) - 1} more are" if len(theirs) > 1 else " is"
    return WeightsError(
        f"{where}not a whole detector of {framework}: tensor {theirs[0]!r}{more} missing; give the whole checkpoint, "
        "all of model.state_dict()",
        missing=missing,
    )


def _theirs(name: str, names: Mapping[str, str], known: Mapping[str, str]) -> str:
    """As another tensor of the same layer is called there, or as all files call it; else ours."""
    layer, _, kind = name.rpartition(".")
    if layer in known:
        return f"{known[layer]}.{kind}"
    beside = next((there for ours, there in names.items() if ours.rpartition(".")[0] == layer), None)
    return name if beside is None else f"{beside.rpartition('.')[0]}.{kind}"
