// The entry point in a notebook: anywidget calls `render` with the traits of the Python widget.
import { h } from "./elements.mjs";
import { buildModel } from "./model.mjs";
import { Scene } from "./scene.mjs";
import { digitsOf } from "./unpack.mjs";
import { shell, viewsOf } from "./views.mjs";

const REPORT_MS = 50; // between two reports of z and u to Python

/** Show the widget in `el`, and keep its traits `z` and `u` in step with the scene, both ways. */
function render({ model: widget, el }) {
  const host = h("div", {});
  el.append(host);
  const bytes = (name) => {
    const data = widget.get(name); // a DataView, which may start at any offset: copy it to align it
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  };
  const config = widget.get("config");
  const model = buildModel(config, new Float32Array(bytes("weights").buffer));
  const scene = new Scene(model, digitsOf(bytes("digits"), config.size, null));
  shell(host).append(...viewsOf(scene, widget.get("view")));

  const take = () => scene.set([...widget.get("z"), ...widget.get("u")]);
  take();
  widget.on("change:z", take);
  widget.on("change:u", take);

  const same = (a, b) =>
    a.length === b.length && a.every((value, i) => Math.abs(value - b[i]) < 1e-6);
  let timer = null;
  const report = () => {
    timer = null;
    const [z, u] = [scene.z, scene.u].map((latents) => Array.from(latents));
    if (same(z, widget.get("z")) && same(u, widget.get("u"))) return;
    widget.set("z", z);
    widget.set("u", u);
    widget.save_changes();
  };
  scene.on(["latents"], () => (timer ??= setTimeout(report, REPORT_MS)));
  return () => {
    clearTimeout(timer);
    widget.off("change:z", take);
    widget.off("change:u", take);
  };
}

export default { render };
