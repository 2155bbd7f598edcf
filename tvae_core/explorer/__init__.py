"""The explorer: turn, bend and draw digits by hand.

It is a widget in a notebook and an element on a page of the book. Both run the same JavaScript,
which decodes and encodes without Python.

notebook.mjs, page.mjs    where a notebook and a page start
views.mjs, *_view.mjs     the views, on top of stage, digit_strip, drawing_sheet and plots
scene.mjs                 the model, image and latents that views share
elements.mjs, style.mjs   what the views are made of, and how it looks
model.mjs                 the trained model, on top of warps, drag and linear_algebra
probability.mjs           bounds and importance weights; random.mjs has the draws
poses.mjs, happened.mjs   moves in degrees and pixels; the line that says what has happened
centring.mjs, unpack.mjs  drawings and stored weights, made ready for the model
export.py, joining.py     models for the JavaScript, and the scripts that pages load
fallback.py               still pictures for pages without JavaScript
"""

from __future__ import annotations

from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from tvae_core import data
from tvae_core.checks import check_known, checked
from tvae_core.data import Images
from tvae_core.explorer import export
from tvae_core.models import VAE
from tvae_core.runtime import is_live


class Explorer(anywidget.AnyWidget):
    """A view of one model in a live notebook. `z` and `u` can be read and set from Python.

    They follow what the reader does, a few times a second. To be notified of changes, use
    `widget.observe(act, ["z", "u"])`.

    Raises:
        traitlets.TraitError: `z` or `u` does not have as many numbers as the model's.
    """

    _esm = export.source(module=True)
    view = traitlets.Unicode().tag(sync=True)
    config = traitlets.Dict().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)
    digits = traitlets.Bytes().tag(sync=True)
    z = traitlets.List(traitlets.Float()).tag(sync=True)
    u = traitlets.List(traitlets.Float()).tag(sync=True)

    @traitlets.validate("z", "u")
    def _has_the_models_length(self, proposal: Any) -> list[float]:
        name, value = proposal["trait"].name, proposal["value"]
        if len(value) != self.config[f"dim_{name}"]:
            raise traitlets.TraitError(
                f"{name} must have {self.config[f'dim_{name}']} numbers, got {len(value)}"
            )
        return value


@checked
def explorer(
    model: VAE,
    images: Images | None = None,
    latents: Float[Tensor, "D"] | None = None,
    view: str = "all",
    binarized: bool = False,
) -> Explorer | None:
    """The explorer of a model that you have trained, in a live notebook.

    Anywhere else, such as in a notebook that is executed without a reader, it prints a line in
    place of the widget and returns None. That keeps widgets out of committed notebooks.

    Args:
        images: digits to choose from. The default is some of the bundled digits, which are 28 x 28.
        latents: z and u to start with. The default is the posterior mean of the first image.
        view: "swap", "pose", "appearance", "encode", "move", "bounds" or "all", which is all of
            them except "move".
        binarized: whether the model was trained on binary pixels. If so, it sees the images as
            `data.binarize_fixed` makes them.

    Raises:
        ValueError: the view is unknown, or the images are not of the model's size.
        TypeError: the model's architecture is not one that `models.build` makes.
    """
    check_known("view", view, export.VIEWS)
    images = export.some_digits() if images is None else images
    if images.size != model.size:
        raise ValueError(
            f"the model needs images of size {model.size}, got {images.size}; "
            "pass images of that size as explorer(model, images=...)"
        )
    config, weights = export.describe(model, images, binarized)
    if not is_live():
        return print("In a live notebook, the explorer of this model appears here.")
    if latents is None:
        with torch.no_grad():
            x = (data.binarize_fixed(images) if binarized else images)[:1].x
            latents = model.posterior(x.to(next(model.parameters()).device)).mean[0]
    z, u = model.split(latents.detach().cpu())
    return Explorer(
        view=view,
        config=config,
        weights=weights.numpy().tobytes(),
        digits=export.pixels_of(images),
        z=z.tolist(),
        u=u.tolist(),
    )
