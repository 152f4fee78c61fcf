import torch

from maskrcnn.model.build import fused_copy
from maskrcnn.model.half import halve_weights
from tests.model.test_cascade import EACH
from tests.model.tiny import batch, tiny_model


def test_halved_weights_give_what_autocast_gives() -> None:
    model = fused_copy(tiny_model())
    images, sizes = batch()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(images, sizes)
        halve_weights(model)
        found = model(images, sizes)
    assert expected.valid.any()
    for name in ("boxes", "scores", "labels", "valid", "masks"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_each_mask_head_of_a_cascade_gives_what_autocast_gives() -> None:
    model = fused_copy(tiny_model(**EACH))
    assert len(model.mask_heads) == 3
    images, sizes = batch()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(images, sizes)
        found = halve_weights(model)(images, sizes)
    assert expected.valid.any()
    assert torch.equal(found.masks, expected.masks)
    assert {head.logits.bias.dtype for head in model.mask_heads} == {torch.float32}


def test_preprocessing_stays_in_float32() -> None:
    model = halve_weights(fused_copy(tiny_model()))
    assert model.mean.dtype == torch.float32
    assert model.mask_head is not None
    assert model.mask_head.logits.bias.dtype == torch.float32
    assert model.backbone.layer1[0].conv1.weight.dtype == torch.bfloat16
