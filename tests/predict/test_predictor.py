from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from maskrcnn.config import DataConfig, MaskHeadConfig, ModelConfig
from maskrcnn.errors import ConfigError, DataError, WeightsError
from maskrcnn.instances import Instances
from maskrcnn.predict.ahead import prepare_ahead
from maskrcnn.predict.devices import choose_precision
from maskrcnn.predict.predictor import Predictor
from maskrcnn.structures import Detections, KeypointSchema
from tests.model.tiny import tiny_model


class Fake(nn.Module):
    """One box from (8, 4) to (16, 12), one that covers the content, one pixel, and one that is not valid."""

    classes, category_ids, keypoints, object_sizes = ("cat", "dog"), (7, 3), None, None

    def __init__(self, **data: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config, self.data = ModelConfig(), DataConfig(**{"min_size": 64, "max_size": 96} | data)  # type: ignore[arg-type]
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, sizes: Tensor) -> Detections:
        self.seen.append(tuple(images.shape))
        count = len(images)
        boxes = torch.tensor([[8.0, 4, 16, 12], [0, 0, 0, 0], [3, 3, 4, 4], [0, 0, 5, 5]]).repeat(count, 1, 1)
        boxes[:, 1, 2:] = sizes.flip(1)
        return Detections(
            boxes=boxes,
            scores=torch.tensor([0.9, 0.6, 0.2, 0.0]).repeat(count, 1),
            labels=torch.tensor([1, 0, 1, 0]).repeat(count, 1),
            valid=torch.tensor([True, True, True, False]).repeat(count, 1),
            masks=torch.full((count, 4, 28, 28), 0.75),
        )


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(one: Instances, other: Instances) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert one.roi_masks is not None
    assert other.roi_masks is not None
    np.testing.assert_allclose(one.roi_masks, other.roi_masks, atol=1e-4)


@pytest.mark.parametrize("score", [7, -0.1, float("nan"), "a", None])
def test_a_threshold_that_cannot_be(score: object) -> None:
    predictor = Predictor(Fake(), "cpu")  # type: ignore[arg-type]
    for call in (predictor, lambda image, score: predictor.stream(image, score_threshold=score)):
        with pytest.raises(ConfigError, match=r"score_threshold: .* must be a number between 0 and 1"):
            call(photo(32, 40), score)


def test_boxes_come_back_in_the_original_frame() -> None:
    """32 x 40 becomes 64 x 80 (twice as large), so boxes are halved; invalid rows are dropped."""
    instances = Predictor(Fake(), "cpu")(photo(32, 40))  # type: ignore[arg-type]
    np.testing.assert_allclose(instances.boxes, [[4, 2, 8, 6], [0, 0, 40, 32], [1.5, 1.5, 2, 2]])
    assert instances.names == ["dog", "cat", "dog"]
    assert instances.size == (32, 40)
    assert (instances.category_ids, instances.mask_threshold, instances.paste) == ((7, 3), 0.5, "exact")
    assert instances.roi_masks is not None
    assert instances.roi_masks.shape == (3, 28, 28)
    assert all(np.isfinite(instances.boxes).ravel())


def test_the_two_axes_scale_on_their_own() -> None:
    """31 x 47 becomes 63 x 96 after rounding: not one common factor."""
    instances = Predictor(Fake(), "cpu")(photo(31, 47))  # type: ignore[arg-type]
    np.testing.assert_allclose(instances.boxes[0], [8 * 47 / 96, 4 * 31 / 63, 16 * 47 / 96, 12 * 31 / 63], rtol=1e-6)
    np.testing.assert_allclose(instances.boxes[1], [0, 0, 47, 31])


def test_score_threshold() -> None:
    predictor = Predictor(Fake(), "cpu")  # type: ignore[arg-type]
    assert [len(predictor(photo(32, 40), score)) for score in (0.1, 0.5, 0.7, 0.95)] == [3, 2, 1, 0]
    empty = predictor(photo(32, 40), 0.95)
    assert empty.boxes.shape == (0, 4)
    assert empty.rle == []
    assert empty.to_coco(1) == []


def test_boxes_come_back_from_the_middle() -> None:
    """24 x 64 lies 20 pixels below the top of 64 x 64; the photo is half as large."""

    class Centred(Fake):
        def forward(self, images: Tensor, sizes: Tensor) -> Detections:
            assert images[:, :, 20:44].any(dim=1).all()
            assert not images[:, :, :20].any()
            assert not images[:, :, 44:].any()
            found = super().forward(images, sizes)
            found.boxes = torch.tensor([[[8.0, 30, 16, 42], [0, 0, 64, 64], [3, 3, 4, 4], [0, 0, 0, 0]]])
            found.keypoints = torch.tensor([[[[10.0, 24, 0.7], [63, 43, 0.2]]]]).expand(1, 4, 2, 3)
            return found

    model = Centred(resize="grow", min_size=16, max_size=64, pad_place="centre", pad_multiple=64)
    model.keypoints = KeypointSchema(("head", "tail"))  # type: ignore[assignment]
    image = np.full((12, 32, 3), 200, np.uint8)
    model.data = replace(model.data, min_size=24)
    found = Predictor(model, "cpu")(image)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.boxes, [[4, 5, 8, 11], [0, 0, 32, 12], [1.5, 0, 2, 0]])
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[0], [[5, 2, 0.7], [31.5, 11.5, 0.2]])
    assert found.keypoint_names == ("head", "tail")


def test_matterports_boxes_are_whole_pixels() -> None:
    """From the first to the last pixel: 64 become 33, so 63 steps become 32. Half goes to even, nothing goes."""

    class Inclusive(Fake):
        def forward(self, images: Tensor, sizes: Tensor) -> Detections:
            found = super().forward(images, sizes)
            found.boxes = torch.tensor(
                [[[63 / 64, 0, 64.0, 63 * 5 / 64 + 1], [0, 0, 63, 63], [20.9, 20.9, 20.9, 20.9], [0, 0, 5, 5]]]
            )
            return found

    model = Inclusive(min_size=64, max_size=64)
    model.config = ModelConfig(inclusive=True, mask=MaskHeadConfig(paste="matterport"))
    found = Predictor(model, "cpu")(np.zeros((33, 33, 3), np.uint8))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.boxes, [[0, 0, 33, 4], [0, 0, 32, 32]])
    assert found.masks[0, 1:3, 1:32].all()


def test_images_of_one_padded_size_share_a_pass() -> None:
    predictor = Predictor(Fake(), "cpu")  # type: ignore[arg-type]
    shapes = [(32, 40), (40, 32), (32, 40), (31, 40), (32, 40)]
    answers = predictor.batch([photo(*shape) for shape in shapes], batch_size=2)
    assert [answer.size for answer in answers] == shapes
    assert sorted(predictor.model.seen) == [(1, 3, 96, 64), (2, 3, 64, 96), (2, 3, 64, 96)]  # type: ignore[attr-defined]


def test_nothing_in_nothing_out() -> None:
    predictor = Predictor(Fake(), "cpu")  # type: ignore[arg-type]
    assert predictor.batch([]) == []
    assert list(predictor.stream([])) == []


@pytest.mark.parametrize("data", [{}, {"interpolation": "bilinear"}, {"resize": "square"}])
def test_a_batch_gives_what_each_image_gives_alone(data: dict) -> None:
    torch.set_num_threads(1)
    model = tiny_model()
    model.data = DataConfig(**{"min_size": 64, "max_size": 96} | data)
    predictor = Predictor(model, "cpu")
    images = [photo(*shape, seed) for seed, shape in enumerate([(60, 80), (80, 60), (60, 80), (50, 90), (60, 79)])]
    together = predictor.batch(images, batch_size=4)
    assert any(len(instances) for instances in together)
    for image, instances in zip(images, together, strict=True):
        assert_same(predictor(image), instances)
        height, width = image.shape[:2]
        assert (instances.boxes >= 0).all()
        assert (instances.boxes <= [width, height, width, height]).all()


def test_every_form_of_an_image_gives_the_same(tmp_path: Path) -> None:
    image = photo(60, 80)
    Image.fromarray(image).save(tmp_path / "photo.png")
    predictor = Predictor(tiny_model(), "cpu")
    expected = predictor(image)
    assert len(expected)
    forms = [Image.fromarray(image), torch.from_numpy(image).permute(2, 0, 1), tmp_path / "photo.png"]
    for form in forms:
        assert_same(predictor(form), expected)
    assert predictor(tmp_path / "photo.png").path == str(tmp_path / "photo.png")


def test_the_model_given_stays_as_it_was() -> None:
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predictor = Predictor(model, "cpu")
    predictor(photo(60, 80))
    assert model.training
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_half_precision_runs() -> None:
    instances = Predictor(tiny_model(), "cpu", "bf16")(photo(60, 80))
    assert instances.boxes.dtype == np.float32
    assert instances.roi_masks is not None
    assert instances.roi_masks.dtype == np.float32


def test_stream_keeps_order_and_skips_broken_files(tmp_path: Path) -> None:
    for index in range(7):
        Image.new("RGB", (40 + index, 32)).save(tmp_path / f"{index}.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "5.png").write_bytes(b"")
    predictor = Predictor(Fake(), "cpu")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="skipped, . so far") as warned:
        found = list(predictor.stream([tmp_path, photo(32, 99)], batch_size=2))
    assert [instances.size[1] for instances in found] == [40, 41, 42, 44, 46, 99]
    assert [Path(instances.path).name if instances.path else None for instances in found][-2:] == ["6.png", None]
    assert len(predictor.skipped) == len(warned) == 2
    assert "5.png" in predictor.skipped[1]


def test_stream_reads_ahead_but_not_everything() -> None:
    asked = []

    def camera():
        for index in range(1000):
            asked.append(index)
            yield photo(32, 40)

    stream = Predictor(Fake(), "cpu").stream(camera(), batch_size=2)  # type: ignore[arg-type]
    next(stream)
    assert len(asked) < 10
    stream.close()  # type: ignore[attr-defined]


def test_memory_shortage_halves_the_batch() -> None:
    class Hungry(Fake):
        def forward(self, images: Tensor, sizes: Tensor) -> Detections:
            if len(images) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(images, sizes)

    predictor = Predictor(Hungry(), "cpu")  # type: ignore[arg-type]
    assert len(predictor.batch([photo(32, 40)] * 7)) == 7
    assert max(shape[0] for shape in predictor.model.seen) == 2  # type: ignore[attr-defined]


def test_messages(tmp_path: Path) -> None:
    predictor = Predictor(Fake(), "cpu")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"no\.jpg: image file not found"):
        predictor(tmp_path / "no.jpg")
    with pytest.raises(DataError, match="no such file or folder"):
        predictor.stream([tmp_path / "no.jpg"])  # at once, not at the first image
    with pytest.raises(ConfigError, match="batch_size: 0 must be at least 1"):
        predictor.stream([], batch_size=0)
    with pytest.raises(ConfigError, match="device: unknown device 'tpu'; use auto, cpu, cuda"):
        Predictor(Fake(), "tpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cuda:99 is not available on this machine; use auto or cpu"):
        Predictor(Fake(), "cuda:99")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="precision: 'fp8' is not one of auto, float32, bf16"):
        choose_precision("fp8", torch.device("cpu"))
    with pytest.raises(ConfigError, match="precision: fp16 is for CUDA, not for cpu; use float32 or bf16"):
        choose_precision("fp16", torch.device("cpu"))
    with pytest.raises(WeightsError, match="no such file or folder"):
        Predictor.load(tmp_path / "runs")


def test_giving_up_does_not_wait_for_the_threads() -> None:
    """Closing may happen in the garbage collector, while another thread starts: joining there would deadlock."""
    import threading

    busy, release, done = threading.Event(), threading.Event(), threading.Event()

    def prepare(item: int) -> int:
        if item == 1:
            busy.set()
            release.wait(20)
            done.set()
        return item

    ahead = prepare_ahead(prepare, range(9), workers=1, ahead=3)  # type: ignore[arg-type]
    next(ahead)
    assert busy.wait(20)
    ahead.close()
    assert not done.is_set()
    release.set()
