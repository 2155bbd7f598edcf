// The canonical image, the sampling grid on top of it, and the output: what several views show.
import { dragged } from "./drag.mjs";
import { fixed, h, knob, panel, picture, s } from "./elements.mjs";
import { likelyU, thetaOf, uOf } from "./model.mjs";
import { controlPoints, displace } from "./warps.mjs";

const HANDLES = [
  "top left corner",
  "top edge",
  "top right corner",
  "left edge",
  "centre",
  "right edge",
  "bottom left corner",
  "bottom edge",
  "bottom right corner",
];
const GRID_LINES = 9; // in each direction

/** What dragging a handle of the affine grid does. Those of a spline just move. */
const effectOf = (handle) =>
  handle === 4 ? "moves it" : handle % 2 ? "stretches and shears it" : "turns and scales it";

/** (x, y) of n points on each line of the grid, one line after the other. */
function gridLines(n) {
  const points = [];
  for (const along of [0, 1]) {
    for (let line = 0; line < GRID_LINES; line++) {
      for (let i = 0; i < n; i++) {
        const xy = [(2 * i) / (n - 1) - 1, (2 * line) / (GRID_LINES - 1) - 1];
        points.push(...(along ? xy.reverse() : xy));
      }
    }
  }
  return Float64Array.from(points);
}

/**
 * The canonical image under the sampling grid, whose handles can be dragged.
 *
 * `likelyOnly()` says whether the grid follows the pointer only as far as the prior allows.
 */
function stage(scene, likelyOnly) {
  const { model } = scene;
  const image = picture(model.size, "canonical image");
  const frame = h("div", { class: "stage" }, image);
  const straight = model.warp !== "tps";
  const n = straight ? 2 : 17;
  const lines = gridLines(n);
  const points = controlPoints(3);
  const [lineFields, pointFields] = [model.fieldsAt(lines), model.fieldsAt(points)];
  const [path, edge] = [s("path", { class: "grid" }), s("path", { class: "edge" })];
  const svg = s("svg", { "aria-hidden": "true" }, path, edge);
  frame.append(svg);

  let extent = 1.5; // half the side of the stage, in units of half the image's
  let released = false; // whether the next drawing is the one after a drag
  let held = null; // u when the drag began: where it leads depends on its ends, not on its way
  const drag = (handle) => (target) => {
    if (!target) {
      held = null;
      released = true;
      return scene.change("latents"); // redraw: the extent changes if the grid is out of sight
    }
    held ??= scene.u.slice();
    const theta = dragged(model, thetaOf(model, held), handle, target);
    scene.setU((likelyOnly() ? likelyU : uOf)(model, theta, held));
  };
  const hasHandles = ["affine", "tps"].includes(model.warp) && (straight || model.points === 3);
  const knobs = hasHandles
    ? HANDLES.map((name, i) => {
        const label = `${name} of the sampling grid${straight ? `, ${effectOf(i)}` : ""}`;
        return knob(label, frame, () => extent, 1 / model.size[1], drag(i));
      })
    : [];
  frame.append(...knobs);

  scene.on(["latents"], () => {
    const { canonical, theta } = scene.output;
    image.show(canonical);
    const coefficients = model.coefficients(theta);
    const drawn = displace(lines, lineFields, coefficients);
    if (!held) {
      const reach = drawn.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
      const seen = released && reach <= extent; // then nothing jumps under the reader's hand
      if (!seen) extent = [1.5, 2, 3].find((size) => reach < size * 0.96) ?? 4;
      released = false;
      svg.setAttribute("viewBox", [-extent, -extent, 2 * extent, 2 * extent].join(" "));
      image.style.inset = `${50 * (1 - 1 / extent)}%`;
      image.style.width = image.style.height = `${100 / extent}%`;
    }
    const pathOf = (line) => {
      let d = "M";
      for (let i = 2 * n * line; i < 2 * n * (line + 1); i += 2) {
        d += `${drawn[i].toFixed(4)} ${drawn[i + 1].toFixed(4)} `;
      }
      return d;
    };
    const all = [...Array(2 * GRID_LINES).keys()];
    const outer = [0, GRID_LINES - 1, GRID_LINES, 2 * GRID_LINES - 1];
    path.setAttribute("d", all.map(pathOf).join(""));
    edge.setAttribute("d", outer.map(pathOf).join(""));
    const at = displace(points, pointFields, coefficients);
    knobs.forEach((each, i) => {
      const [x, y] = [at[2 * i], at[2 * i + 1]];
      each.show([x, y], `looks at x ${fixed(x)}, y ${fixed(y)}`);
    });
  });
  return frame;
}

/** The canonical image without the grid. */
export function canonicalPicture(scene) {
  const image = picture(scene.model.size, "canonical image");
  scene.on(["latents"], () => image.show(scene.output.canonical));
  return image;
}

/** The decoder's output. */
export function outputPicture(scene) {
  const image = picture(scene.model.size, "output of the decoder");
  scene.on(["latents"], () => image.show(scene.output.image));
  return image;
}

/** Panels of the stage and of the output. A plain VAE, which has no warp, has only the latter. */
export function decoderPanels(scene, likelyOnly = () => true) {
  const output = panel("output", outputPicture(scene));
  if (!scene.model.warp) return [output];
  return [panel("canonical image, and where the output looks", stage(scene, likelyOnly)), output];
}
