// The swap view: what from one digit, where from another.
import { digitStrip } from "./digit_strip.mjs";
import { button, fixed, h, panel, picture, said } from "./elements.mjs";
import { decode, encode, split } from "./model.mjs";
import { decoderPanels } from "./stage.mjs";
import { apart } from "./warps.mjs";

const NOTHING_TO_SWAP = "A plain VAE has no u, so there is nothing to swap: its z holds what and where.";

export function swapView(scene) {
  const { model, digits } = scene;
  if (!model.warp)
    return [
      h("p", { class: "note" }, NOTHING_TO_SWAP),
      h("div", { class: "row pictures" }, ...decoderPanels(scene)),
    ];
  let secondIndex = Math.min(14, digits.images.length - 1);
  let picking = 0; // which of the two digits the strip chooses
  const picks = ["first digit", "second digit"].map((name, i) =>
    button(name, () => {
      picking = i;
      scene.change("picking");
    }),
  );
  const choose = (i) => {
    if (picking === 0) return scene.choose(i);
    secondIndex = i;
    scene.change("second");
  };
  const isChosen = (i) => i === (picking ? secondIndex : scene.index);
  scene.on(["picking"], () =>
    picks.forEach((each, i) => each.setAttribute("aria-pressed", String(picking === i))),
  );
  const image = (label) => picture(model.size, label);
  const heads = ["the image", "second digit"].map(image);
  const sides = ["canonical image of the first", "canonical image of the second"].map(image);
  const own = ["first, as it lies", "second, as it lies"].map(image);
  const mixed = ["first, lying like the second", "second, lying like the first"].map(image);
  const line = said();
  scene.on(["x", "second"], () => {
    const x = scene.asTrained(digits.images[secondIndex], secondIndex);
    const xs = [scene.x, x];
    const parts = [scene.q, encode(model, x)].map((q) => split(model, q.mean));
    const mix = (what, where) =>
      decode(model, Float32Array.from([...parts[what][0], ...parts[where][1]]));
    const drawn = [mix(0, 0), mix(1, 1)];
    for (const i of [0, 1]) {
      heads[i].show(xs[i]);
      sides[i].show(drawn[i].canonical);
      own[i].show(drawn[i].image);
      mixed[i].show(mix(i, 1 - i).image);
    }
    line.textContent =
      "The framed pictures have exchanged u and kept z: each grid moved by " +
      `${fixed(apart(drawn[0].grid, drawn[1].grid, model.size), 1)} pixels on average.`;
  });
  const cell = (caption, canvas, kind) => {
    const figure = panel(caption, canvas);
    figure.classList.add(kind);
    return figure;
  };
  return [
    h(
      "div",
      { class: "tools", role: "group", "aria-label": "choose" },
      "choose the ",
      ...picks,
    ),
    digitStrip(scene, choose, isChosen, ["x", "second", "picking"]),
    h(
      "div",
      { class: "matrix" },
      h("span", {}),
      cell("where: u of the first", heads[0], "head"),
      cell("where: u of the second", heads[1], "head"),
      cell("what: z of the first", sides[0], "side"),
      cell("first, as it lies", own[0], "own"),
      cell("first, lying like the second", mixed[0], "mixed"),
      cell("what: z of the second", sides[1], "side"),
      cell("second, lying like the first", mixed[1], "mixed"),
      cell("second, as it lies", own[1], "own"),
    ),
    line,
  ];
}
