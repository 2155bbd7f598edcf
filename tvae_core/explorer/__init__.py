"""Live widgets: turn a trained model's u by hand. The one module that needs ipywidgets."""

from __future__ import annotations

import io

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tvae_core.models import VAE
from tvae_core.runtime import is_live

SCALE = 6  # screen pixels per image pixel


def turn_pose(model: VAE, latents: Float[Tensor, "D"]) -> object:
    """Sliders for every u, and beside them the canonical image and what the warp makes of it.

    In a live notebook this is a widget; elsewhere a line that says so.

    Raises:
        TypeError: the model has no warp.
    """
    model.canonical(latents)  # a plain VAE is refused here
    if not is_live():
        return print(f"In a live notebook, {model.dim_u} sliders appear here.")
    import ipywidgets as widgets

    z, u = model.split(latents)
    sliders = [
        widgets.FloatSlider(value, min=-3, max=3, step=0.05, description=f"u{i + 1}")
        for i, value in enumerate(u.tolist())
    ]
    picture = widgets.Image(format="png", layout=widgets.Layout(align_self="flex-start"))

    def draw(_: object = None) -> None:
        pose = torch.tensor([slider.value for slider in sliders], device=z.device)
        picture.value = _png(model, torch.cat([z, pose]))

    def reset(_: object) -> None:
        for slider in sliders:
            slider.value = 0.0

    for slider in sliders:
        slider.observe(draw, "value")
    button = widgets.Button(description="all u = 0", tooltip="the mean of the prior")
    button.on_click(reset)
    draw()
    return widgets.HBox([widgets.VBox([*sliders, button]), picture])


@torch.inference_mode()
def _png(model: VAE, latents: Float[Tensor, "D"]) -> bytes:
    """Canonical image and warped image side by side, enlarged."""
    pair = torch.cat([model.canonical(latents), model.decoder(latents).mean], -1)[0]
    gray = ((1 - pair) * 255).byte().cpu().numpy()
    size = (gray.shape[1] * SCALE, gray.shape[0] * SCALE)
    file = io.BytesIO()
    Image.fromarray(gray).resize(size, Image.Resampling.NEAREST).save(file, "png")
    return file.getvalue()
