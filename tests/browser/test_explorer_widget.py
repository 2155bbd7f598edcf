"""The explorer as a widget in a notebook, on a blank page."""

import base64
import json
from pathlib import Path

import pytest
import torch
from test_explorer_page import gray, same, settle

import tvae_core
from tvae_core import data, explorer, models
from tvae_core.explorer import export
from tvae_core.runtime import seeded

RENDER = """async ([url, traits]) => {
  const { default: { render } } = await import(url);
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  Object.assign(traits, { weights: bytes(traits.weights), digits: bytes(traits.digits) });
  const listeners = {};
  window.saved = 0;
  window.model = {
    get: (name) => traits[name],
    set: (name, value) => (traits[name] = value),
    on: (event, act) => (listeners[event] = act),
    off: (event) => delete listeners[event],
    save_changes: () => window.saved++,
    fromPython: (name, value) => { traits[name] = value; listeners["change:" + name](); },
  };
  window.leave = render({ model: window.model, el: document.body });
}"""


@pytest.fixture
def render(browser, monkeypatch):
    """Renders a widget on a blank page, from the modules as they are joined or as they stand."""
    monkeypatch.setattr(explorer, "is_live", lambda: True)
    context, errors = browser.new_context(), []
    folder = Path(export.__file__).parent
    contents = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.mjs")}

    def serve(route):
        name = route.request.url.rsplit("/", 1)[1]
        route.fulfill(
            body=contents[name],
            content_type="text/javascript",
            headers={"Access-Control-Allow-Origin": "*"},
        )

    def render(widget, joined=True):
        contents["joined.mjs"] = widget._esm
        traits = {name: getattr(widget, name) for name in ("view", "config", "z", "u")}
        for name in ("weights", "digits"):
            traits[name] = base64.b64encode(getattr(widget, name)).decode()
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.route("http://modules/*", serve)
        url = f"http://modules/{'joined' if joined else 'notebook'}.mjs"
        page.evaluate(RENDER, [url, json.loads(json.dumps(traits))])
        settle(page)
        return page

    yield render
    context.close()
    assert errors == []


def test_modules_also_work_without_being_joined(render):
    model, _ = tvae_core.load_pretrained("affine-iwae5")
    widget = explorer.explorer(model.cpu(), view="all", binarized=True)
    joined, separate = (render(widget, joined) for joined in (True, False))
    for label in ("canonical image", "output of the decoder", "second, lying like the first"):
        assert same(gray(separate, label), gray(joined, label))


def test_the_widget_in_a_notebook(render):
    """anywidget is a stub, but the traits are those of the real widget."""
    with seeded(3):
        model = models.build("affine", size=(10, 12), dim_z=3, hidden=(16,), pose_std=0.3)
        images = data.from_tensor(torch.rand(4, 1, 10, 12))
    widget = explorer.explorer(model, images, latents=torch.linspace(-1, 1, 9), view="pose")
    page = render(widget)
    assert page.evaluate("window.saved") == 0  # nothing has been moved

    def golden(z, u):
        with torch.no_grad():
            return model.decoder(torch.tensor([*z, *u])).mean.flatten()

    assert (gray(page, "output of the decoder") - golden(widget.z, widget.u)).abs().max() < 3e-3
    page.evaluate("v => model.fromPython('u', v)", [0.5] * 6)
    settle(page)
    assert (gray(page, "output of the decoder") - golden(widget.z, [0.5] * 6)).abs().max() < 3e-3
    page.get_by_role("slider", name="centre of the sampling grid").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("window.saved > 0")
    u = page.evaluate("model.get('u')")
    assert (gray(page, "output of the decoder") - golden(widget.z, u)).abs().max() < 3e-3
    assert u != [0.5] * 6
    page.evaluate("window.leave()")


# The page of the book, on a slow line.
