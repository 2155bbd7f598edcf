// The encode view: choose or draw a digit, and see its posterior and its terms of the ELBO.
import { inBackground } from "./background.mjs";
import { digitStrip } from "./digit_strip.mjs";
import { drawingSheet } from "./drawing_sheet.mjs";
import { button, fixed, h, panel, picture, RANGE, s, table } from "./elements.mjs";
import { happened } from "./happened.mjs";
import { split } from "./model.mjs";
import { kl, meanSe, particle } from "./probability.mjs";
import { normals } from "./random.mjs";
import { decoderPanels } from "./stage.mjs";

const DRAWS = 200; // for the terms of the ELBO

/** Mean and one sigma of these latents of q, on top of the prior's band. */
function posteriorPlot(scene, name, latents) {
  const n = latents.length;
  const height = 84;
  const y = (value) => height / 2 - (height / 2 - 4) * Math.min(Math.max(value / RANGE, -1), 1);
  const prior = s("rect", { class: "prior", x: 0, width: "100%", y: y(1), height: y(-1) - y(1) });
  const bars = [...Array(n).keys()].map((i) => {
    const x = `${(100 * (i + 0.5)) / n}%`;
    return [s("line", { x1: x, x2: x }), s("circle", { cx: x, r: n > 30 ? 1.8 : 2.6 })];
  });
  const svg = s(
    "svg",
    { class: "posterior", height, role: "img" },
    prior,
    s("line", { class: "axis", x1: 0, x2: "100%", y1: y(0), y2: y(0) }),
    ...bars.flat(),
  );
  const q = name === "z" && scene.model.look ? "q(z | x, u) at the mean of u" : `q(${name} | x)`;
  scene.on(["x"], () => {
    const { mean, sigma } = scene.q;
    bars.forEach(([line, dot], i) => {
      const [m, d] = [mean[latents[i]], sigma[latents[i]]];
      dot.setAttribute("cy", y(m));
      line.setAttribute("y1", y(m - d));
      line.setAttribute("y2", y(m + d));
    });
    svg.setAttribute("aria-label", `${q}: mean and sigma of ${n} latents`);
  });
  const order = "most informative latents first";
  return panel(`${q}: mean ± σ, ${order}; the band is the prior's`, svg);
}

const total = (values) => values.reduce((a, b) => a + b, 0);

/** A table of the terms of the ELBO. */
function elboTerms(scene) {
  const { model } = scene;
  const klOfZ = model.look
    ? `KL(q(z | x, u) || p(z)), mean of ${DRAWS} draws of u`
    : "KL(q(z | x) || p(z))";
  const rows = [
    ["reconstruction loss", `-log p(x | z, u), mean of ${DRAWS} draws of q`],
    ["KL of z", klOfZ],
    ...(model.dim_u ? [["KL of u", "KL(q(u | x) || p(u))"]] : []),
    ["sum, −ELBO", "the negative evidence lower bound"],
  ];
  const isExact = ([name]) => name === "KL of u" || (name === "KL of z" && !model.look);
  const shown = table(rows);
  let stop = () => {};
  scene.on(["x"], () => {
    stop();
    shown.show(rows.map(() => "…"));
    const { q, x } = scene;
    const uniform = scene.uniforms();
    const draws = []; // the terms of each, in the order of the rows
    stop = inBackground(() => {
      const { logLik, normal } = particle(model, x, q, normals(uniform, q.mean.length));
      const kls = split(model, kl(normal)).slice(0, model.dim_u ? 2 : 1);
      const terms = [-logLik, ...kls.map(total)];
      draws.push([...terms, total(terms)]);
      if (draws.length < DRAWS) return false;
      shown.show(
        rows.map((row, i) => {
          const { mean, se } = meanSe(draws.map((each) => each[i]));
          return isExact(row) ? fixed(mean) : `${fixed(mean)} ± ${fixed(se)}`;
        }),
      );
      return true;
    });
  });
  const pixels = model.binarized
    ? ""
    : " Gray pixels: the loss is a cross-entropy, and no −log probability.";
  const look = model.look
    ? " The KL of u is exact. That of z depends on u, and is a mean over the draws of u."
    : "";
  return h("figure", { class: "numbers" }, shown, h("figcaption", {}, `In nats.${look}${pixels}`));
}

/** x seen through the inverse of the grid, for an encoder that reads z from it. */
function straightenedPanel(scene) {
  const image = picture(scene.model.size, "the image, straightened");
  scene.on(["x"], () => image.show(scene.q.straightened));
  return panel("x, straightened", image);
}

export function encodeView(scene) {
  const { model } = scene;
  const x = picture(model.size, "the image");
  scene.on(["x"], () => x.show(scene.x));
  return [
    h(
      "div",
      { class: "row choose" },
      h(
        "div",
        { class: "grow" },
        digitStrip(
          scene,
          (i) => scene.choose(i),
          (i) => i === scene.index,
          ["x"],
        ),
      ),
      drawingSheet(scene, (gray) => scene.take(gray)),
    ),
    h(
      "div",
      { class: "row pictures" },
      panel(model.binarized ? "x, binary as in training" : "x", x),
      scene.q.straightened ? straightenedPanel(scene) : null,
      ...decoderPanels(scene),
    ),
    h(
      "div",
      { class: "tools" },
      button("back to the reconstruction", () => scene.set(scene.q.mean)),
    ),
    happened(scene),
    h(
      "div",
      { class: "row plots" },
      h(
        "div",
        { class: "grow" },
        posteriorPlot(scene, "z", scene.zByKl),
        model.dim_u ? posteriorPlot(scene, "u", scene.uByKl) : null,
      ),
      elboTerms(scene),
    ),
  ];
}
