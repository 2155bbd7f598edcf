// The move view: turn and shift a digit, and see the pose that the encoder infers follow.
import { digitStrip } from "./digit_strip.mjs";
import { button, fixed, h, panel, picture, said, slider, table } from "./elements.mjs";
import { differing } from "./happened.mjs";
import { canonical, encode, gridOf, split, thetaOf } from "./model.mjs";
import { inverseOf, poseBetween } from "./poses.mjs";
import { normals, uniforms } from "./random.mjs";
import { affineOf, pixelCentres, sample } from "./warps.mjs";

const POSE_DRAWS = 50; // of u from q, for the deviation of a pose
const NO_TURN = "This view needs a model with a u whose warp does not bend.";

export function moveView(scene) {
  const { model, digits } = scene;
  if (!model.warp || model.warp === "tps") return [h("p", { class: "note" }, NO_TURN)];
  const [height, width] = model.size;
  const move = { degrees: 0, right: 0, down: 0 };
  let [xBefore, upright] = [null, null]; // the digit as it was, and what the encoder finds for it
  const mapOf = (u) => affineOf(gridOf(model, thetaOf(model, u)), model.size);

  /** The digit as the reader has moved it: each pixel looks where the inverse of the move says. */
  const moved = (gray) => {
    const [[a, b], [c, d]] = inverseOf(move.degrees);
    const grid = pixelCentres(model.size);
    for (let i = 0; i < grid.length; i += 2) {
      const [x, y] = [(grid[i] * width) / 2 - move.right, (grid[i + 1] * height) / 2 - move.down];
      grid[i] = ((a * x + b * y) * 2) / width;
      grid[i + 1] = ((c * x + d * y) * 2) / height;
    }
    return sample(gray, model.size, grid, "zeros");
  };
  const show = () => scene.take(moved(digits.images[scene.chosen]));
  const choose = (i) => {
    scene.choose(i);
    xBefore = scene.asTrained(digits.images[i], null);
    upright = encode(model, xBefore);
    show();
  };
  const set = (name) => (value) => {
    move[name] = value;
    show();
  };
  const reset = () => {
    Object.assign(move, { degrees: 0, right: 0, down: 0 });
    show();
  };
  const sliders = [
    ["turn", "degrees", "turn, degrees counter-clockwise", 60, 1],
    ["right", "right", "shift to the right, pixels", 5, 0.25],
    ["down", "down", "shift downwards, pixels", 5, 0.25],
  ].map(([name, key, label, most, step]) => {
    const row = slider(name, label, set(key), { min: -most, max: most, step });
    scene.on(["x"], () => row.show(move[key]));
    return row;
  });
  const [x, image] = ["the image", "canonical image"].map((label) => picture(model.size, label));
  const shown = table([
    ["inferred turn", "degrees, mean of q ± its standard deviation"],
    ["inferred shift to the right", "pixels"],
    ["inferred shift downwards", "pixels"],
  ]);
  const line = said();
  choose(scene.chosen);
  scene.on(["x"], () => {
    const n = model.dim_z;
    const before = mapOf(split(model, upright.mean)[1]);
    const [mean, sigma] = [scene.q.mean, scene.q.sigma].map((each) => each.subarray(n));
    const now = poseBetween(before, mapOf(mean), model.size);
    const uniform = uniforms(1);
    const draws = [...Array(POSE_DRAWS)].map(() => {
      const noise = normals(uniform, mean.length);
      return poseBetween(before, mapOf(mean.map((m, i) => m + sigma[i] * noise[i])), model.size);
    });
    const deviation = (key) =>
      Math.sqrt(draws.reduce((sum, each) => sum + (each[key] - now[key]) ** 2, 0) / POSE_DRAWS);
    const says = (key, unit) => `${fixed(now[key], 1)} ± ${fixed(deviation(key), 1)}${unit}`;
    shown.show([says("degrees", "°"), says("right", ""), says("down", "")]);
    x.show(scene.x);
    const drawn = canonical(model, split(model, scene.q.mean)[0]);
    image.show(drawn);
    const first = canonical(model, split(model, upright.mean)[0]);
    const [moving, changed] = [differing(scene.x, xBefore, 0.5), differing(drawn, first, 0.5)];
    const off = (key) => fixed(Math.abs(now[key] - move[key]), 1);
    line.textContent =
      `You turned the digit by ${fixed(move.degrees, 0)}° and shifted it by ${fixed(move.right, 1)} ` +
      `and ${fixed(move.down, 1)} pixels. The model is off by ${off("degrees")}°, ${off("right")} and ` +
      `${off("down")} pixels. ${moving} of ${drawn.length} pixels of the picture changed by more than ` +
      `a half, and ${changed} of the canonical image` +
      (3 * changed > moving ? ": part of this move went into z." : ".");
  });
  return [
    digitStrip(scene, choose, (i) => i === scene.chosen, ["x"]),
    h("div", { class: "row pictures" }, panel("x, as you moved it", x), panel("canonical image", image)),
    h("div", { class: "sliders", role: "group", "aria-label": "move" }, ...sliders),
    h("div", { class: "tools" }, button("as it was", reset)),
    h("figure", { class: "numbers" }, shown),
    line,
  ];
}
