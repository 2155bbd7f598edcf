// One line under a figure: what the reader's last moves have done.
import { fixed, said } from "./elements.mjs";
import { decode } from "./model.mjs";
import { apart } from "./warps.mjs";

/** How many pixels of two images differ by more than `most`. */
export const differing = (a, b, most) =>
  a.filter((value, i) => Math.abs(value - b[i]) > most).length;

const same = (a, b) => a.every((value, i) => value === b[i]);

/** How z, u and the pictures differ from those that the encoder found for the image. */
export function happened(scene) {
  const { model } = scene;
  const line = said();
  let own = null;
  scene.on(["x"], () => (own = decode(model, scene.q.mean)));
  scene.on(["x", "latents"], () => {
    const { x, z, u, q, output } = scene;
    const n = x.length;
    const [zStands, uStands] = [same(z, q.mean.subarray(0, model.dim_z)), same(u, q.mean.subarray(model.dim_z))];
    const moved = model.warp ? fixed(apart(own.grid, output.grid, model.size), 1) : null;
    const redrawn = differing(own.canonical, output.canonical, 0.1);
    const image = model.warp ? "canonical image" : "output";
    const ofZ = `z: ${redrawn} of ${n} pixels of the ${image} changed by more than a tenth`;
    const ofU = `u: the grid moved by ${moved} pixels on average`;
    line.textContent =
      zStands && uStands
        ? `${model.warp ? "z and u are" : "z is"} what the encoder found. The output misses ` +
          `${differing(x, output.image, 0.5)} of the image's ${n} pixels by more than a half.`
        : zStands
          ? `You changed ${ofU}. The ${image} stands still, as z does.`
          : uStands
            ? `You changed ${ofZ}.${model.warp ? " The grid stands still, as u does." : ""}`
            : `You changed ${ofZ}. And ${ofU}.`;
  });
  return line;
}
