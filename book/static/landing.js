// One digit moves: its latents z stay, its pose changes, and the grid shows where the output looks.
//
// The page holds what it needs in data attributes: the canonical image, 28 x 28 bytes in base64, and
// the poses to go through, each six numbers (A | t) of a grid p -> A p + t.
"use strict";
for (const figure of document.querySelectorAll(".landing-figure")) {
  const N = 28;
  const canonical = Uint8Array.from(atob(figure.dataset.canonical), (c) => c.charCodeAt(0));
  const poses = JSON.parse(figure.dataset.poses);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const [left, right] = figure.querySelectorAll("canvas");
  const button = figure.querySelector("button");
  const SIZE = left.width; // of the canvas, in its own pixels
  const ROOM = 0.35; // around both images: for grids that look outside, and for digits at the edge

  /** The ink at a point of [-1, 1]², by bilinear interpolation; outside there is paper. */
  const ink = (x, y) => {
    const [u, v] = [((x + 1) * N - 1) / 2, ((y + 1) * N - 1) / 2];
    const [j, i] = [Math.floor(u), Math.floor(v)];
    const at = (r, c) => (r < 0 || c < 0 || r >= N || c >= N ? 0 : canonical[r * N + c]);
    const [a, b] = [u - j, v - i];
    return (
      (1 - b) * ((1 - a) * at(i, j) + a * at(i, j + 1)) + b * ((1 - a) * at(i + 1, j) + a * at(i + 1, j + 1))
    );
  };

  const paint = (canvas, scale, pose) => {
    const context = canvas.getContext("2d");
    const image = context.createImageData(SIZE, SIZE);
    for (let row = 0; row < SIZE; row++) {
      for (let column = 0; column < SIZE; column++) {
        const [x, y] = [column, row].map((p) => (((p + 0.5) / SIZE) * 2 - 1) * scale);
        const [a, b, t, c, d, s] = pose;
        const gray = 255 - ink(a * x + b * y + t, c * x + d * y + s);
        image.data.set([gray, gray, gray, 255], 4 * (row * SIZE + column));
      }
    }
    context.putImageData(image, 0, 0);
    return context;
  };

  const draw = (pose) => {
    paint(right, 1 + ROOM, pose);
    const context = paint(left, 1 + ROOM, [1, 0, 0, 0, 1, 0]);
    const [a, b, t, c, d, s] = pose;
    const place = (v) => ((v / (1 + ROOM) + 1) / 2) * SIZE;
    context.strokeStyle = "#d55e00";
    for (let line = -1; line <= 1.001; line += 0.25) {
      context.lineWidth = Math.abs(line) > 0.99 ? 3 : 1.2;
      for (const [from, to] of [[[line, -1], [line, 1]], [[-1, line], [1, line]]]) {
        context.beginPath();
        for (const [x, y] of [from, to]) context.lineTo(place(a * x + b * y + t), place(c * x + d * y + s));
        context.stroke();
      }
    }
  };

  /** The pose at a time in seconds, on a closed way through all of them. */
  const at = (seconds) => {
    const along = (seconds / 1.6) % poses.length;
    const [k, rest] = [Math.floor(along), along % 1];
    const way = rest * rest * (3 - 2 * rest);
    return poses[k].map((value, i) => value + way * (poses[(k + 1) % poses.length][i] - value));
  };

  let [time, before, running] = [0, null, false];
  const step = (now) => {
    if (!running) return;
    time += before === null ? 0 : Math.min(now - before, 100) / 1000;
    before = now;
    draw(at(time));
    requestAnimationFrame(step);
  };
  const run = (on) => {
    [running, before] = [on, null];
    button.textContent = on ? "Pause" : "Play";
    if (on) requestAnimationFrame(step);
  };

  figure.classList.add("ready");
  draw(at(0));
  button.addEventListener("click", () => run(!running));
  new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) run(false);
    else if (!still.matches && button.dataset.chosen !== "stop") run(true);
  }).observe(figure);
  button.addEventListener("click", () => (button.dataset.chosen = running ? "go" : "stop"));
}
