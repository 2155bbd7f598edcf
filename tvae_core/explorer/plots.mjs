// The plots of the bounds view, and that of the length of u.
import { fixed, s } from "./elements.mjs";

/** Margins of a plot: per cent of the width at the left, pixels at the top and the bottom. */
const PLOT = { height: 170, left: 13, top: 8, bottom: 26 };
const BINS = 36;

/** An SVG with an x-axis. svg.draw(...marks) replaces what is plotted on it. */
function plotFrame(label, left, xLabels = [], xName = "") {
  const { height, bottom } = PLOT;
  const low = height - bottom;
  const svg = s(
    "svg",
    { class: "plot", height, role: "img", "aria-label": label },
    s("line", { class: "axis", x1: `${left}%`, x2: "100%", y1: low, y2: low }),
    ...xLabels.map(([x, text]) =>
      s("text", { x: `${x}%`, y: low + 13, "text-anchor": "middle" }, text),
    ),
    s("text", { x: "100%", y: height - 2, "text-anchor": "end" }, xName),
  );
  const layer = s("g", {});
  svg.append(layer);
  svg.draw = (...marks) => layer.replaceChildren(...marks.flat());
  return svg;
}

/** About n round numbers between low and high. */
const ticks = (low, high, n = 4) => {
  const rough = (high - low) / n || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((each) => each >= rough);
  const from = Math.ceil(low / step) * step;
  return [...Array(Math.floor((high - from) / step) + 1).keys()].map((i) => from + i * step);
};

/** The bound as a function of k, for k up to `mostDraws`. */
export function boundPlot(mostDraws) {
  const { height, left, top, bottom } = PLOT;
  const across = (k) => left + 2 + (95 - left) * (Math.log(k) / Math.log(mostDraws));
  const labels = [1, 10, 100, 1000].map((k) => [across(k), String(k)]);
  const svg = plotFrame("bounds on log p(x) against k", left, labels, "k, draws in a bound");
  return Object.assign(svg, {
    show(curve) {
      const values = curve.flatMap(({ mean, se }) => [mean - (se ?? 0), mean + (se ?? 0)]);
      const [low, high] = [Math.min(...values) - 0.5, Math.max(...values) + 0.5];
      const y = (v) => top + ((high - v) / (high - low)) * (height - bottom - top);
      svg.draw(
        ticks(low, high)
          .map((v) => [
            s("line", { class: "rule", x1: `${left}%`, x2: "100%", y1: y(v), y2: y(v) }),
            s(
              "text",
              { x: `${left - 1}%`, y: y(v) + 4, "text-anchor": "end" },
              fixed(v, high - low < 4 ? 1 : 0),
            ),
          ])
          .flat(),
        curve.slice(1).map((to, i) =>
          s("line", {
            class: "curve",
            x1: `${across(curve[i].k)}%`,
            x2: `${across(to.k)}%`,
            y1: y(curve[i].mean),
            y2: y(to.mean),
          }),
        ),
        curve
          .map(({ k, mean, se }) => [
            s("line", {
              class: "curve",
              x1: `${across(k)}%`,
              x2: `${across(k)}%`,
              y1: y(mean - (se ?? 0)),
              y2: y(mean + (se ?? 0)),
            }),
            s("circle", { class: "curve", cx: `${across(k)}%`, cy: y(mean), r: 3 }),
          ])
          .flat(),
      );
    },
  });
}

/** Histogram of log-weights, with the ELBO and the estimate of log p(x). */
export function weightPlot() {
  const svg = plotFrame("histogram of the log-weights", 0);
  const { height, top, bottom } = PLOT;
  const low = height - bottom;
  return Object.assign(svg, {
    show(logW, elbo, logP) {
      // The left tail may be long, so the first bin takes all weights below the first percentile.
      const sorted = Float64Array.from(logW).sort();
      const [from, to] = [sorted[Math.floor(0.01 * sorted.length)] - 1, sorted.at(-1) + 1];
      const counts = Array(BINS).fill(0);
      const x = (v) => (100 * (v - from)) / (to - from);
      for (const w of logW)
        counts[Math.max(0, Math.min(BINS - 1, Math.floor((x(w) * BINS) / 100)))]++;
      const tall = (n) => ((low - top - 14) * n) / Math.max(...counts);
      const mark = (v, name, kind, anchor) => [
        s("line", { class: kind, x1: `${x(v)}%`, x2: `${x(v)}%`, y1: top + 4, y2: low }),
        s(
          "text",
          {
            class: kind,
            x: `${x(v)}%`,
            dx: anchor === "end" ? -4 : 4,
            y: top + 8,
            "text-anchor": anchor,
          },
          name,
        ),
      ];
      svg.draw(
        counts.map((n, i) =>
          s("rect", {
            class: "bar",
            x: `${(100 * i) / BINS}%`,
            width: `${92 / BINS}%`,
            y: low - tall(n),
            height: tall(n),
          }),
        ),
        ticks(from, to).map((v) =>
          s("text", { x: `${x(v)}%`, y: low + 13, "text-anchor": "middle" }, fixed(v, 0)),
        ),
        mark(elbo, "ELBO", "elbo", "end"),
        mark(logP, "log p(x)", "logp", x(logP) > 75 ? "end" : "start"),
      );
    },
  });
}

/** How long draws of u from the prior are in n dimensions, and how long this one is. */
export function lengthPlot(n) {
  const [height, foot, most] = [52, 36, Math.sqrt(n) + 4];
  const x = (length) => (100 * Math.min(length, most)) / most;
  const density = (length) => length ** (n - 1) * Math.exp(-(length ** 2) / 2);
  const highest = density(Math.sqrt(n - 1));
  const curve = [...Array(61).keys()].map((i) => (most * i) / 60);
  const points = curve.map((l) => `${x(l).toFixed(2)} ${foot - (30 * density(l)) / highest}`);
  const mark = s("line", { class: "mark", y1: 2, y2: foot });
  const dot = s("circle", { class: "mark", cy: foot, r: 5 });
  const svg = s(
    "svg",
    { class: "length", height, role: "img" },
    s(
      "svg",
      { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", height, width: "100%" },
      s("path", { d: `M0 ${foot} L${points.join(" L")} L100 ${foot} Z` }),
    ),
    s("line", { class: "axis", x1: 0, x2: "100%", y1: foot, y2: foot }),
    ...[...Array(Math.floor(most)).keys()].map((i) =>
      s("text", { x: `${x(i)}%`, y: foot + 14, "text-anchor": i ? "middle" : "start" }, String(i)),
    ),
    mark,
    dot,
  );
  return Object.assign(svg, {
    show(length) {
      for (const name of ["x1", "x2"]) mark.setAttribute(name, `${x(length)}%`);
      dot.setAttribute("cx", `${x(length)}%`);
      svg.classList.toggle("beyond", length > most);
      const label = `lengths of u under the prior; this u is ${fixed(length, 1)} long`;
      svg.setAttribute("aria-label", label);
    },
  });
}
