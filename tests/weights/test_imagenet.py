from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from maskrcnn.errors import WeightsError
from maskrcnn.weights.imagenet import imagenet_file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize(("trunk", "name"), [("resnet50", "resnet50-0676ba61.pth"), ("mobilenet_v2", "mobilenet_v2-")])
def test_downloads_once_and_checks_the_hash(
    trunk: str, name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def download(url: str, file: str, hash_prefix: str | None = None) -> None:
        downloads.append((url, hash_prefix))
        Path(file).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    file = imagenet_file(trunk)
    assert imagenet_file(trunk) == file
    assert file.parent == cache
    assert file.name.startswith(name)
    [(url, digest)] = downloads
    assert url.startswith("https://download.pytorch.org/models/")
    assert digest is not None
    assert f"-{digest}." in file.name


def test_offline_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*arguments: object, **keywords: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(WeightsError, match=r"cannot download the ImageNet weights of resnet18 .*--weights PATH"):
        imagenet_file("resnet18")


def test_a_trunk_without_published_weights(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"torchvision publishes no ImageNet weights for efficientnet_lite0; give"):
        imagenet_file("efficientnet_lite0")
