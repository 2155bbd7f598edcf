"""Several models of one kind trained side by side, as one model with one more axis.

One large matrix product replaces many small ones, which would leave a GPU mostly idle.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tvae_core.models import VAE
from tvae_core.training import History


class StackedLinear(nn.Module):
    """S linear layers side by side, each with its own weights.

    Maps (..., S, B, in) to (..., S, B, out).
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Float[Tensor, "*K S B in"]) -> Float[Tensor, "*K S B out"]:
        first = x.movedim(-3, 0)  # S first; a view of the previous layer's output, so no copy
        y = torch.baddbmm(self.bias.unsqueeze(1), first.flatten(1, -2), self.weight.mT)
        return y.unflatten(1, first.shape[1:-1]).movedim(0, -3)

    def layer(self, index: int) -> nn.Linear:
        """One of the S layers, as an ordinary linear layer."""
        weight, bias = self.weight[index].detach(), self.bias[index].detach()
        linear = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
        linear.load_state_dict({"weight": weight, "bias": bias})
        return linear


def stack(models: Sequence[VAE]) -> VAE:
    """S models of one kind as one model for images (S, B, 1, H, W), with a batch for each of them.

    Every axis B becomes (S, B). Parameters are copied, not shared.
    """
    stacked = copy.deepcopy(models[0])
    for name, module in models[0].named_modules():
        if isinstance(module, nn.Linear):
            layers = [model.get_submodule(name) for model in models]
            stacked.set_submodule(name, StackedLinear(layers))  # type: ignore[arg-type]
    return stacked


def unstack(stacked: VAE) -> list[VAE]:
    """The separate models of a stack."""
    layers = {n: m for n, m in stacked.named_modules() if isinstance(m, StackedLinear)}
    alone = [copy.deepcopy(stacked) for _ in next(iter(layers.values())).weight]
    for index, model in enumerate(alone):
        for name, module in layers.items():
            model.set_submodule(name, module.layer(index))
    return alone


def unstack_history(history: History) -> list[History]:
    """The separate histories of the models of a stack."""
    width = len(history[0]["bound"])
    return [
        [{n: v[i] if isinstance(v, list) else v for n, v in row.items()} for row in history]
        for i in range(width)
    ]
