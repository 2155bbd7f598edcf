"""The explorer's views on a stand-in for a page, for the tests."""

import base64
import json
import subprocess
from pathlib import Path

import torch
from test_explorer_model import EXPLORER, NODE, drawn, javascript
from torch.distributions import kl_divergence

import tvae_core
from tvae_core import data
from tvae_core.explorer import export

RUNNER = Path(__file__).parent / "explorer" / "run_view.mjs"
MINUS = "\N{MINUS SIGN}"
ENCODED = 'await until(() => cells()[0] !== "…");'  # the encode view has its numbers


def on_page(model, view, act, digit=5, binarized=False, images=None, given=None, motion=True):
    """What `act`, a body of JavaScript, returns on a page with this view: see run_view.mjs."""
    images = export.some_digits() if images is None else images
    config, weights = export.describe(model, images, binarized)
    job = {
        "folder": EXPLORER.as_uri(),
        "config": config,
        "exact": base64.b64encode(weights.numpy().tobytes()).decode(),
        "digits": base64.b64encode(export.pixels_of(images)).decode(),
        "labels": None if images.labels is None else images.labels.tolist(),
        "view": view,
        "start": {"index": digit},
        "act": act,
        "given": given,
        "reducedMotion": not motion,
    }
    done = subprocess.run([NODE, RUNNER], input=json.dumps(job), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shipped(name):
    """A shipped model, the bundled digits as it saw such images in training, and if binarized."""
    model, record = tvae_core.load_pretrained(name)
    digits = export.some_digits()
    return model.cpu(), data.binarize_fixed(digits) if record.binary else digits, record.binary


def informative(model, binarized):
    """Mean KL of each latent over the bundled digits, and which latents are informative."""
    config, _ = export.describe(model, export.some_digits(), binarized)
    return torch.tensor(config["mean_kl"]), torch.tensor(config["informative"])


def numbers(text):
    """The number and its error in a text such as "95.31 ± 0.48"."""
    value, _, error = text.replace(MINUS, "-").replace(",", "").partition(" ± ")
    return float(value), float(error or 0)


@torch.no_grad()
def draws_of(model, x, digit, n):
    """log p(x | z, u), log w and KLs of the page's own n draws for a digit, computed by PyTorch.

    Only the noise comes from the page. The KLs are those of the normals that the draws come from.
    """
    latents = model.dim_z + model.dim_u
    (noise,) = javascript(["someNormals", 1 + 7919 * digit, n * latents])
    q = model.posterior(x)
    draws, normal = drawn(q, torch.tensor(noise).view(n, latents))
    log_lik = model.decoder(draws).log_prob(x).double()
    log_q = q.log_prob(draws).double().sum(-1)
    log_w = log_lik + model.prior.log_prob(draws).double().sum(-1) - log_q
    return log_lik, log_w, kl_divergence(normal, model.prior).double()
