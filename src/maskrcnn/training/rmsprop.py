"""RMSProp as TensorFlow has it. torch's adds epsilon outside the root, starts at 0 and keeps the rate out of the
momentum, which is another optimiser at the API's epsilon of 1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class RMSProp(torch.optim.Optimizer):
    """`s = d s + (1 - d) g^2; m = mu m + rate g / sqrt(s + eps); w = w - m`, with s = 1 at first.

    From TensorFlow's `ApplyRMSProp` kernel. Like torch's fused optimisers it looks at `self.found_inf`, a flag on the
    device: where it is not 0, nothing changes.

    Args:
        parameters: tensors or groups; a group's `weight_decay` is added to its gradients.
        lr: learning rate.
        momentum: mu.
        decay: d, of the mean square.
        eps: added to the mean square, inside the root.
    """

    def __init__(
        self, parameters: Iterable[Any], *, lr: float, momentum: float = 0.9, decay: float = 0.9, eps: float = 1.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        bad: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group, bad)

    def _update(self, parameter: Tensor, group: dict[str, Any], bad: Tensor | None) -> None:
        state = self.state[parameter]
        if not state:
            state["square"] = torch.ones_like(parameter)
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        square = state["square"].lerp(gradient.square(), 1 - group["decay"])
        momentum = state["momentum"] * group["momentum"] + group["lr"] * gradient / (square + group["eps"]).sqrt()
        if bad is not None:  # on the device: the host does not wait for it
            square = torch.where(bad > 0, state["square"], square)
            moved = torch.where(bad > 0, 0.0, momentum)
            momentum = torch.where(bad > 0, state["momentum"], momentum)
        else:
            moved = momentum
        state["square"].copy_(square)
        state["momentum"].copy_(momentum)
        parameter.sub_(moved)
