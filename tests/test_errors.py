from __future__ import annotations

import pickle

import pytest

from maskrcnn import errors


def test_data_error_says_where() -> None:
    error = errors.DataError("has 2 points; remove it", path="a.json", image=7, annotation=9)
    assert str(error) == "a.json, image 7, annotation 9: has 2 points; remove it"
    assert str(errors.DataError("is empty")) == "is empty"
    assert str(errors.DataError("is wrong", image=0)) == "image 0: is wrong"


def test_data_error_survives_the_trip_from_a_loader_process() -> None:
    error = pickle.loads(pickle.dumps(errors.DataError("bad", path="a", image=1, annotation=2)))
    assert str(error) == "a, image 1, annotation 2: bad"
    assert (str(error.path), error.image, error.annotation) == ("a", 1, 2)


def test_config_error_names_the_field() -> None:
    error = errors.ConfigError("must be positive", field="train.epochs")
    assert (str(error), error.field) == ("train.epochs: must be positive", "train.epochs")
    assert str(errors.ConfigError("unknown preset")) == "unknown preset"


def test_weights_error_lists_tensors() -> None:
    error = errors.WeightsError("does not fit", missing=["a"], unexpected=["b", "c"])
    assert (error.missing, error.unexpected) == (("a",), ("b", "c"))


@pytest.mark.parametrize("name", ["ConfigError", "DataError", "ExportError", "TrainingError", "WeightsError"])
def test_one_class_catches_all(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.MaskRCNNError)
