// The appearance view: move through z, on a map of canonical images.
import { inBackground } from "./background.mjs";
import { button, fixed, h, knob, panel, picture, RANGE, slider, subscript } from "./elements.mjs";
import { happened } from "./happened.mjs";
import { canonical } from "./model.mjs";
import { canonicalPicture, outputPicture } from "./stage.mjs";

const TILES = 7; // of the map, in each direction

/** A map of canonical images over the two latents `axes`, with a knob on it. */
function appearanceMap(scene, axes) {
  const { model } = scene;
  const [height, width] = model.size;
  const image = picture([TILES * height, TILES * width], "map of canonical images");
  const square = h("div", { class: "pad" }, image);
  const step = 0.1;
  const point = knob(
    "appearance, two latents",
    square,
    () => RANGE,
    step,
    (target) => {
      if (!target) return;
      const latents = Float32Array.from(scene.latents);
      // The latent grows upwards, as on the axes of a plot.
      [latents[axes[0]], latents[axes[1]]] = [target[0], -target[1]];
      scene.set(latents);
    },
  );
  square.append(point);

  const pixels = new Float32Array(TILES * height * TILES * width);
  const drawTile = (tile, others) => {
    const [row, column] = [Math.floor(tile / TILES), tile % TILES];
    const z = Float32Array.from(others);
    z[axes[0]] = RANGE * ((2 * column + 1) / TILES - 1);
    z[axes[1]] = -RANGE * ((2 * row + 1) / TILES - 1);
    const tileImage = canonical(model, z);
    for (let i = 0; i < height; i++) {
      const at = (row * height + i) * TILES * width + column * width;
      pixels.set(tileImage.subarray(i * width, (i + 1) * width), at);
    }
  };
  let [stop, drawnFor] = [() => {}, ""];
  scene.on(["latents", "axes"], () => {
    const { z } = scene;
    const [a, b] = axes.map((axis) => z[axis]);
    point.show([a, -b], `z ${axes[0] + 1} ${fixed(a)}, z ${axes[1] + 1} ${fixed(b)}`);
    // The map depends on the axes and on all other latents, not on where the point is.
    const others = Float32Array.from(z);
    for (const axis of axes) others[axis] = 0;
    const key = [...axes, ...others].join();
    if (key === drawnFor) return;
    drawnFor = key;
    stop();
    let tile = 0;
    stop = inBackground(() => {
      drawTile(tile++, others);
      if (tile === TILES ** 2) image.show(pixels);
      return tile === TILES ** 2;
    });
  });
  return square;
}

function latentMenu(scene, label, chosen, act) {
  const option = (i) => h("option", { value: i, selected: i === chosen }, `z${subscript(i)}`);
  const isInformative = (i) => scene.model.informative[i];
  const uninformative = scene.zByKl.filter((i) => !isInformative(i));
  const menu = h(
    "select",
    { "aria-label": label, onchange: () => act(Number(menu.value)) },
    ...scene.zByKl.filter(isInformative).map(option),
    uninformative.length
      ? h("optgroup", { label: "uninformative" }, ...uninformative.map(option))
      : null,
  );
  return menu;
}

export function appearanceView(scene) {
  const { model } = scene;
  const axes = scene.zByKl.slice(0, 2);
  let sliderLatent = scene.zByKl[2] ?? 0;
  // A latent is on one axis only: choosing that of the other axis exchanges the two.
  const setAxis = (i) => (latent) => {
    if (latent === axes[1 - i]) axes[1 - i] = axes[i];
    axes[i] = latent;
    menus.forEach((each, j) => (each.value = axes[j]));
    scene.change("axes");
  };
  const menus = ["latent across", "latent up"].map((label, i) =>
    latentMenu(scene, label, axes[i], setAxis(i)),
  );
  const row = slider("", "value of the latent", (value) => scene.setLatent(sliderLatent, value));
  row.classList.add("wide");
  const menu = latentMenu(scene, "latent of the slider", sliderLatent, (latent) => {
    sliderLatent = latent;
    scene.change("axes");
  });
  row.firstChild.append("slider for ", menu);
  scene.on(["latents", "axes"], () => row.show(scene.latents[sliderLatent]));
  return [
    h(
      "div",
      { class: "row pictures" },
      panel("canonical images over two latents; drag the point", appearanceMap(scene, axes)),
      ...(model.warp ? [panel("canonical image", canonicalPicture(scene))] : []),
      panel(model.warp ? "output, in the present pose" : "output", outputPicture(scene)),
    ),
    h(
      "div",
      { class: "tools" },
      h("label", {}, "across ", menus[0]),
      h("label", {}, "up ", menus[1]),
      button("random z", () => scene.setZ(scene.random(model.dim_z))),
      ...(model.dim_u ? [button("random u", () => scene.setU(scene.random(model.dim_u)))] : []),
      button("all z = 0", () => scene.setZ(scene.z.map(() => 0))),
      button("reset", () => scene.set(scene.q.mean)),
    ),
    h("div", { class: "tools" }, row),
    happened(scene),
  ];
}
