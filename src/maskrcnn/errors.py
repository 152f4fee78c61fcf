"""Every error that bad input can cause. One sentence each: file, item, value, remedy.

Callers catch `MaskRCNNError`; the command line prints it and exits with code 2. Assertions are for our own bugs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path


class MaskRCNNError(Exception):
    """Base of all errors that a user can mend."""


class DataError(MaskRCNNError):
    """Something is wrong with an image or an annotation.

    Args:
        message: what is wrong, with the value and the remedy.
        path: the file concerned.
        image: id or name of the image inside that file.
        annotation: id of the annotation.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        image: object = None,
        annotation: object = None,
    ) -> None:
        self.message = message
        self.path = None if path is None else Path(path)
        self.image = image
        self.annotation = annotation
        where = [str(path)] if path is not None else []
        where += [f"image {image}"] if image is not None else []
        where += [f"annotation {annotation}"] if annotation is not None else []
        super().__init__(": ".join([", ".join(where), message]) if where else message)

    def __reduce__(self) -> tuple:  # keyword-only arguments survive the trip from a loader process
        state = {"path": self.path, "image": self.image, "annotation": self.annotation}
        return _rebuild_data_error, (self.message, state)


def _rebuild_data_error(message: str, state: dict) -> DataError:
    return DataError(message, **state)


class NoAnnotationsError(DataError):
    """No reader knows these files: a folder of photographs, perhaps."""


class ConfigError(MaskRCNNError):
    """A config field has a wrong name or value. `field` is its dotted name."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(f"{field}: {message}" if field else message)


class WeightsError(MaskRCNNError):
    """A checkpoint cannot be used. `missing` and `unexpected` are tensor names."""

    def __init__(self, message: str, *, missing: Sequence[str] = (), unexpected: Sequence[str] = ()) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        super().__init__(message)


@contextlib.contextmanager
def weights_of(where: object) -> Iterator[None]:
    """A `WeightsError` from inside gets the file in front."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}", missing=error.missing, unexpected=error.unexpected) from error


class ExportError(MaskRCNNError):
    """An export could not be written or does not agree with the model."""


class TrainingError(MaskRCNNError):
    """Training cannot go on: a loss is not finite, memory ran out, or the run is finished."""
