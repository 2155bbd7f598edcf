"""The explorer: turn, bend and draw digits by hand. In a notebook it is a widget, on a page of the
book an element; both run the same JavaScript, which decodes and encodes by itself.

model.mjs     the trained model as pure functions
views.mjs     what is seen and touched
style.mjs     how it looks
export.py     models for the JavaScript, and scripts for pages
fallback.py   pictures that stand on a page without JavaScript
"""

from __future__ import annotations

from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from tvae_core.data import Images
from tvae_core.explorer import export
from tvae_core.models import VAE
from tvae_core.runtime import check_known, is_live


class Explorer(anywidget.AnyWidget):
    """A view of one model in a live notebook. `z` and `u` can be read and set from Python.

    They follow the reader's hand, a few times a second. To be told, use
    `widget.observe(act, ["z", "u"])`.

    Raises:
        traitlets.TraitError: `z` or `u` of another length than the model's.
    """

    _esm = export.source(module=True)
    view = traitlets.Unicode().tag(sync=True)
    config = traitlets.Dict().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)
    digits = traitlets.Bytes().tag(sync=True)
    z = traitlets.List(traitlets.Float()).tag(sync=True)
    u = traitlets.List(traitlets.Float()).tag(sync=True)

    @traitlets.validate("z", "u")
    def _as_long_as_the_models(self, proposal: Any) -> list[float]:
        name, value = proposal["trait"].name, proposal["value"]
        if len(value) != self.config[f"dim_{name}"]:
            raise traitlets.TraitError(
                f"{name} has {self.config[f'dim_{name}']} numbers, got {len(value)}"
            )
        return value


def explorer(
    model: VAE,
    images: Images | None = None,
    latents: Float[Tensor, "D"] | None = None,
    view: str = "all",
    binarized: bool = False,
) -> Explorer | None:
    """The explorer of a model that you have trained, in a live notebook.

    Elsewhere (a notebook that is executed without a reader) it prints a line that says so, and
    returns None: committed notebooks hold no widget.

    Args:
        images: digits to choose from; without them some bundled ones, which are 28 x 28.
        latents: z and u to begin with; without them those of the first image.
        view: "pose", "appearance", "encode", "bounds" or "all".
        binarized: whether the model was trained on binary pixels; its digits are made binary, too.

    Raises:
        ValueError: an unknown view; images of another size than the model's.
        TypeError: a model of an architecture that `models.build` does not make.
    """
    check_known("view", view, export.VIEWS)
    images = export.some_digits() if images is None else images
    if images.size != model.size:
        raise ValueError(
            f"the model draws images of size {model.size}, these have {images.size}; "
            "give explorer(model, images=...) some of its own"
        )
    config, weights = export.describe(model, images, binarized)
    if not is_live():
        return print("In a live notebook, the explorer of this model appears here.")
    if latents is None:
        with torch.no_grad():
            x = images[:1].x.to(next(model.parameters()).device)
            latents = model.posterior(x).mean[0]
    z, u = model.split(latents.detach().cpu())
    return Explorer(
        view=view,
        config=config,
        weights=weights.numpy().tobytes(),
        digits=images.pixels.cpu().numpy().tobytes(),
        z=z.tolist(),
        u=u.tolist(),
    )
