// The bounds view: draw importance samples, and watch the bounds and the estimate of log p(x).
import { inBackground } from "./background.mjs";
import { digitStrip } from "./digit_strip.mjs";
import { button, fixed, h, panel, picture, table } from "./elements.mjs";
import { boundPlot, weightPlot } from "./plots.mjs";
import { bound, estimate, logSumExp, particle } from "./probability.mjs";
import { normals } from "./random.mjs";

/** The values of k that have a bound plotted, and numbers of draws to choose from. */
const KS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
// Between two plots while draws arrive. Readers who want little motion see one a second.
const [REPLOT_MS, STILL_REPLOT_MS] = [100, 1000];
// With fewer effective draws than this, the estimate is mostly too low, by more than its error bar.
const FEW = 10;

/** The smallest number of draws that hold half of the sum of weights. */
function holdingHalf(logW) {
  const sorted = Float64Array.from(logW).sort().reverse();
  const half = Math.exp(logSumExp(sorted) - sorted[0]) / 2;
  let [sum, n] = [0, 0];
  while (sum < half) sum += Math.exp(sorted[n++] - sorted[0]);
  return n;
}

export function boundsView(scene) {
  const { model } = scene;
  const x = picture(model.size, "the image");
  let logW = new Float64Array(0);
  let [stop, running] = [() => {}, false];
  const [curvePlot, histogram] = [boundPlot(KS.at(-1)), weightPlot()];
  const shown = table([
    ["draws k", ""],
    ["ELBO", "mean of log w"],
    ["log p(x), estimated", "log of the mean of w, ± standard error"],
    ["effective sample size", "(sum w)² / sum w²"],
    ["largest weight's share", "max w / sum w"],
  ]);
  const warning = h("p", { class: "warning" });
  const line = h("p", { class: "said" }); // changes with each draw: `status` is what is announced
  const status = h("p", { class: "hidden", role: "status" });
  const limit = h("input", {
    type: "range",
    min: 0,
    max: KS.length - 1,
    step: 1,
    value: KS.length - 1,
    "aria-label": "number of draws",
    oninput: () => show(),
  });
  const limitShown = h("output", {});
  const target = () => KS[limit.valueAsNumber];
  const start = button("draw", () => (running ? pause() : draw()));

  function show() {
    limitShown.textContent = target().toLocaleString("en");
    limit.setAttribute("aria-valuetext", `${target()} draws`);
    start.textContent = running ? "pause" : logW.length ? "draw on" : "draw";
    start.disabled = !running && logW.length >= target();
    const used = logW.subarray(0, target());
    for (const plot of [curvePlot, histogram]) plot.classList.toggle("empty", used.length < 2);
    warning.textContent = "";
    line.textContent = "No weights yet: press draw.";
    if (used.length < 2) {
      if (used.length) {
        line.textContent =
          `One draw: log w = ${fixed(used[0])} nats. It is an estimate of the ELBO and of log p(x) ` +
          "alike. The plots and the errors need at least two draws.";
        if (!running) status.textContent = line.textContent;
      }
      return shown.show([String(used.length), ...Array(4).fill("")]);
    }
    const { logP, se, ess } = estimate(used);
    const ks = [...KS.filter((k) => k < used.length), used.length];
    const curve = ks.map((k) => bound(used, k));
    Object.assign(curve.at(-1), { se });
    curvePlot.show(curve);
    histogram.show(used, curve[0].mean, logP);
    line.textContent =
      `The estimate of log p(x) lies ${fixed(logP - curve[0].mean)} nats above the ELBO, and ` +
      `${holdingHalf(used)} of ${used.length.toLocaleString("en")} draws hold half of all weight.`;
    const share = Math.exp(Math.max(...used) - logSumExp(used));
    const rows = [
      used.length.toLocaleString("en"),
      `${fixed(curve[0].mean)} ± ${fixed(curve[0].se)}`,
      `${fixed(logP)} ± ${fixed(se)}`,
      fixed(ess, ess < 10 ? 1 : 0),
      `${fixed(100 * share, 0)} %`,
    ];
    shown.show(rows);
    if (ess < FEW) {
      warning.textContent =
        `Fewer than ${FEW} effective draws: log p(x) is probably higher, often by a nat or more, ` +
        "and the error bar does not show it.";
    }
    if (!running) {
      status.textContent =
        `${rows[0]} draws: ELBO ${rows[1]}, log p of x ${rows[2]} nats. ` + warning.textContent;
    }
  }

  function pause() {
    stop();
    running = false;
    show();
  }

  function discard() {
    logW = new Float64Array(0);
    pause();
  }

  function draw() {
    running = true;
    const goal = target();
    const all = new Float64Array(goal);
    all.set(logW);
    let drawn = logW.length;
    let next = 0;
    const uniform = scene.uniforms(drawn);
    const { q, x: image } = scene;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const pace = still ? STILL_REPLOT_MS : REPLOT_MS;
    stop = inBackground(() => {
      if (!start.isConnected) return true; // the reader has switched to another model
      all[drawn++] = particle(model, image, q, normals(uniform, q.mean.length)).logW;
      logW = all.subarray(0, drawn);
      const done = drawn === goal;
      if (done || performance.now() > next) {
        next = performance.now() + pace;
        if (done) running = false;
        show();
      }
      return done;
    });
    show();
  }

  scene.on(["x"], () => {
    x.show(scene.x);
    discard();
  });
  const pixels = model.binarized
    ? ""
    : " Gray pixels: log p(x) is no log-probability of a picture.";
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
      panel("x", x),
    ),
    h(
      "div",
      { class: "tools" },
      start,
      button("start again", discard),
      h("label", { class: "slider wide" }, h("span", {}, "k up to"), limit, limitShown),
    ),
    h(
      "div",
      { class: "row plots even" },
      panel("bounds: means over groups of k draws, in nats", curvePlot),
      panel("log-weights of all draws, in nats", histogram),
    ),
    h("figure", { class: "numbers" }, shown, h("figcaption", {}, `In nats.${pixels}`), warning),
    line,
    status,
  ];
}
