// A question that is answered with sliders: they set a grid, and the output should look like the
// target. questions.js asks this script for the fields of a question of the kind "match".
//
// The question holds the input's levels, 28 x 28 bytes in base64 with 0 as black, and pictures of the
// input and of the target. The script draws only what the reader's grid reads.
"use strict";
{
  const N = 28;
  const SLIDERS = [
    { name: "turn", min: -90, max: 90, step: 5, start: 0, unit: "°" },
    { name: "scale", min: 0.5, max: 2, step: 0.1, start: 1, unit: "" },
    { name: "shift along x", min: -0.5, max: 0.5, step: 0.05, start: 0, unit: "" },
    { name: "shift along y", min: -0.5, max: 0.5, step: 0.05, start: 0, unit: "" },
  ];

  /** (A | t) of the grid A p + t, row by row. With y pointing down, a positive turn is clockwise. */
  const gridOf = ([turn, scale, x, y]) => {
    const angle = (turn * Math.PI) / 180;
    const [c, s] = [scale * Math.cos(angle), scale * Math.sin(angle)];
    return [c, -s, x, s, c, y];
  };

  /** The levels of the output: the input, read by bilinear sampling, with paper around it. */
  const output = (levels, values) => {
    const [a, b, tx, c, d, ty] = gridOf(values);
    const ink = (i, j) => (i < 0 || j < 0 || i >= N || j >= N ? 0 : 255 - levels[i * N + j]);
    return Uint8ClampedArray.from({ length: N * N }, (_, k) => {
      const [x, y] = [k % N, Math.floor(k / N)].map((pixel) => (2 * pixel + 1) / N - 1); // its centre
      const u = ((a * x + b * y + tx + 1) * N - 1) / 2;
      const v = ((c * x + d * y + ty + 1) * N - 1) / 2;
      const [j, i] = [Math.floor(u), Math.floor(v)];
      const [right, down] = [u - j, v - i];
      const upper = (1 - right) * ink(i, j) + right * ink(i, j + 1);
      const lower = (1 - right) * ink(i + 1, j) + right * ink(i + 1, j + 1);
      return Math.round(255 - (1 - down) * upper - down * lower);
    });
  };

  /** What the output shows, for those who cannot see it. The target is described alike. */
  const described = (values) => {
    const [turn, scale] = values;
    const [a, b, tx, c, d, ty] = gridOf(values);
    const way = (value, less, more) => `${Math.abs(value).toFixed(2)} ${value < -0.005 ? less : more}`;
    // The middle of the input is seen where A p + t = 0, so at -A⁻¹ t.
    const [x, y] = [b * ty - d * tx, c * tx - a * ty].map((value) => value / (a * d - b * c));
    const direction = turn > 0 ? "counter-clockwise" : "clockwise"; // against the grid
    return (
      `The digit turned ${direction} by ${Math.abs(turn)} degrees, ${(1 / scale).toFixed(2)} times as ` +
      `large, its middle ${way(x, "to the left", "to the right")} and ${way(y, "up", "down")}`
    );
  };

  const draw = (canvas, levels) => {
    const image = new ImageData(N, N);
    levels.forEach((level, k) => image.data.set([level, level, level, 255], 4 * k));
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  /** The sliders and the picture of the output, which is put between the input and the target. */
  const fields = (question, make) => {
    const levels = Uint8Array.from(atob(question.dataset.levels), (c) => c.charCodeAt(0));
    const canvas = make("canvas", { width: N, height: N, role: "img" });
    const picture = make("figure", {}, canvas, make("figcaption", {}, "output"));
    question.querySelector(".pictures figure").after(picture);
    const ids = SLIDERS.map((_, i) => `slider-${question.dataset.id}-${i}`);
    const inputs = SLIDERS.map(({ min, max, step, start }, i) =>
      make("input", { type: "range", id: ids[i], min, max, step, value: start }),
    );
    // No <output>, which screen readers would announce after the slider's own value.
    const shown = SLIDERS.map(() => make("span", { "aria-hidden": "true" }));
    const rows = SLIDERS.map(({ name }, i) =>
      make("div", {}, make("label", { for: ids[i] }, name), inputs[i], shown[i]),
    );
    const read = () => inputs.map((input) => Number(input.value));
    const update = () => {
      const values = read();
      values.forEach((value, i) => {
        const said = value.toFixed(SLIDERS[i].step < 0.1 ? 2 : SLIDERS[i].step < 1 ? 1 : 0);
        shown[i].textContent = said.replace("-", "−") + SLIDERS[i].unit;
        inputs[i].setAttribute("aria-valuetext", shown[i].textContent);
      });
      draw(canvas, output(levels, values));
      canvas.setAttribute("aria-label", described(values));
    };
    for (const input of inputs) input.addEventListener("input", update);
    update();
    const legend = make("legend", {}, "Move the grid until the output looks like the target.");
    return { field: make("fieldset", {}, legend, ...rows), read };
  };

  globalThis.matchQuestion = { output, described, fields };
}
