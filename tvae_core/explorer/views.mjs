// What a reader sees and touches: views of one model, in the page of a book and in a notebook.
//
// A Scene holds the model and what is shown of it: latents, an image, its posterior. Views change
// the scene and are drawn by it, once per frame. Pictures are canvases of one pixel per pixel;
// lines and plots are SVG; what can be dragged is an element with the role of a slider.
import {
  binarize,
  bound,
  buildModel,
  canonical,
  centred,
  controlPoints,
  decode,
  dragged,
  encode,
  estimate,
  fromHalves,
  inflate,
  kl,
  logLik,
  logSumExp,
  moved,
  normals,
  particle,
  split,
  thetaOf,
  uniforms,
  uOf,
  WARPS,
} from "./model.mjs";
import { STYLE } from "./style.mjs";

const RANGE = 3; // of sliders and of the pad, in standard deviations of the prior
const ACTIVE = 0.1; // nats: a latent that takes less, on average over the digits, tells nothing
const RECON_DRAWS = 32;
const MOST_DRAWS = 5000;
const MARKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
const SHOW_MS = 100; // between two plots of draws that arrive
const FRAME_MS = 10; // how long a piece of background work may hold up the page

// ---------------------------------------------------------------- elements

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const button = (text, act, attributes = {}) =>
  h("button", { type: "button", onclick: act, ...attributes }, text);

const sub = (i) => String(i + 1).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
const fixed = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

/** A picture of gray values, 0 white and 1 black. */
function picture([height, width], label) {
  const canvas = h("canvas", { width, height, role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  canvas.show = (x) => {
    for (let i = 0; i < x.length; i++) {
      pixels.data.fill(Math.round(255 * (1 - x[i])), 4 * i, 4 * i + 3);
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  };
  return canvas;
}

const panel = (caption, ...children) => h("figure", {}, ...children, h("figcaption", {}, caption));

/** A slider with its name and its value. It shows values beyond its ends, too. */
function slider(name, label, act, { min = -RANGE, max = RANGE, step = 0.01 } = {}) {
  const range = h("input", {
    type: "range",
    min,
    max,
    step,
    "aria-label": label,
    oninput: () => act(range.valueAsNumber),
  });
  const shown = h("output", {});
  const row = h("label", { class: "slider" }, h("span", {}, name), range, shown);
  row.show = (value) => {
    if (range.valueAsNumber !== value) range.value = value;
    shown.textContent = fixed(value, Math.abs(value) < 10 ? 2 : 0);
    row.classList.toggle("beyond", value < min || value > max);
  };
  return row;
}

/** A point on a square of [-extent, extent]^2 that can be dragged, or moved by arrow keys. */
function knob(label, square, extent, step, act) {
  const at = [0, 0];
  let grip = null;
  const where = (event) => {
    const box = square.getBoundingClientRect();
    return [
      (((event.clientX - box.left) / box.width) * 2 - 1) * extent(),
      (((event.clientY - box.top) / box.height) * 2 - 1) * extent(),
    ];
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const element = h("span", {
    class: "knob",
    role: "slider",
    tabindex: 0,
    "aria-label": label,
    "aria-roledescription": "point, moved by arrow keys",
    "aria-valuemin": -RANGE,
    "aria-valuemax": RANGE,
    onpointerdown: (event) => {
      const [x, y] = where(event);
      grip = [at[0] - x, at[1] - y];
      element.setPointerCapture(event.pointerId);
      event.preventDefault();
      element.focus({ preventScroll: true });
    },
    onpointermove: (event) => {
      if (!grip) return;
      const limit = extent();
      const [x, y] = where(event).map((value, i) => value + grip[i]);
      act([x, y].map((value) => Math.min(Math.max(value, -limit), limit)));
    },
    onlostpointercapture: () => {
      grip = null;
      act(null);
    },
    onkeydown: (event) => {
      const way = arrows[event.key];
      if (!way) return;
      event.preventDefault();
      act(at.map((value, i) => value + way[i] * step * (event.shiftKey ? 5 : 1)));
      act(null);
    },
  });
  element.show = ([x, y], valueText) => {
    [at[0], at[1]] = [x, y];
    const limit = extent();
    const percent = (value) => 50 * (1 + Math.min(Math.max(value / limit, -1), 1));
    element.style.left = `${percent(x)}%`;
    element.style.top = `${percent(y)}%`;
    element.setAttribute("aria-valuenow", x.toFixed(2));
    element.setAttribute("aria-valuetext", valueText);
  };
  return element;
}

// ---------------------------------------------------------------- scene

/** A model and what is shown of it. */
class Scene {
  constructor(model, digits, start = {}) {
    this.model = model;
    this.digits = digits;
    this.latents = new Float32Array(model.dim_z + model.dim_u);
    this.listeners = [];
    this.changed = new Set();
    this.seed = 1;
    const { activity } = model;
    const order = [...activity.keys()].sort((a, b) => activity[b] - activity[a]);
    this.busiest = order.filter((i) => i < model.dim_z);
    this.busiestU = order.filter((i) => i >= model.dim_z);
    if (start.gray) this.take(start.gray, start.index);
    else this.choose(start.index ?? 0);
  }

  /** An image as the model saw images in training: binary where it was trained on binary ones. */
  asTrained(gray) {
    return this.model.binarized ? binarize(gray, uniforms(0)) : gray;
  }

  /** Call `draw` in the next frame after each change, with the set of what has changed. */
  on(draw) {
    this.listeners.push(draw);
    this.change();
  }

  change(...what) {
    for (const each of what) this.changed.add(each);
    this.frame ??= requestAnimationFrame(() => {
      const { changed } = this;
      [this.frame, this.changed] = [null, new Set()];
      for (const draw of this.listeners) draw(changed);
    });
  }

  choose(index) {
    this.take(this.digits.images[index], index);
  }

  /** Show this image, and the latents that the encoder finds for it. */
  take(gray, index = null) {
    this.index = index;
    this.gray = gray;
    this.x = this.asTrained(gray);
    this.q = encode(this.model, this.x);
    this.change("x");
    this.set(this.q.mean);
  }

  get z() {
    return split(this.model, this.latents)[0];
  }

  get u() {
    return split(this.model, this.latents)[1];
  }

  set(latents) {
    this.latents = Float32Array.from(latents);
    this.decoded = null;
    this.change("latents");
  }

  setZ(z) {
    this.set([...z, ...this.u]);
  }

  setU(u) {
    this.set([...this.z, ...u]);
  }

  /** The decoder's output for the latents, computed once for all views. */
  get output() {
    return (this.decoded ??= decode(this.model, this.latents));
  }

  random(n) {
    return normals(uniforms(this.seed++ + 1000 * (Date.now() % 1000)), n);
  }

  with(latent, value) {
    const latents = Float32Array.from(this.latents);
    latents[latent] = value;
    this.set(latents);
  }
}

/** Call `piece` again and again, between frames, until it returns true; returns how to stop it. */
function inBackground(piece) {
  let timer;
  const go = () => {
    const end = performance.now() + FRAME_MS;
    while (performance.now() < end) if (piece()) return;
    timer = setTimeout(go);
  };
  timer = setTimeout(go);
  return () => clearTimeout(timer);
}

// ---------------------------------------------------------------- the grid over a picture

const POINTS = [
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

/** What a handle of the affine grid does; those of a spline only move. */
const does = (point) =>
  point === 4 ? "moves it" : point % 2 ? "stretches and shears it" : "turns and scales it";

/** Lines of the grid, (x, y) of their points one after the other; each of `n` points. */
function gridLines(lines, n) {
  const points = [];
  for (const along of [0, 1]) {
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < n; i++) {
        const xy = [(2 * i) / (n - 1) - 1, (2 * line) / (lines - 1) - 1];
        points.push(...(along ? xy.reverse() : xy));
      }
    }
  }
  return Float64Array.from(points);
}

/** The canonical image, and over it the sampling grid with its handles. */
function stage(scene, likely = () => false) {
  const { model } = scene;
  const image = picture(model.size, "canonical image");
  const frame = h("div", { class: "stage" }, image);
  const straight = model.warp !== "tps";
  const n = straight ? 2 : 17;
  const lines = gridLines(9, n);
  const points = controlPoints(3);
  const [lineFields, pointFields] = [model.fieldsAt(lines), model.fieldsAt(points)];
  const [path, edge] = [s("path", { class: "grid" }), s("path", { class: "edge" })];
  const svg = s("svg", { "aria-hidden": "true" }, path, edge);
  frame.append(svg);

  let extent = 1.5;
  let dragging = false;
  const act = (point) => (target) => {
    dragging = target !== null;
    if (!dragging) return scene.change("latents");
    const theta = dragged(model.warp, thetaOf(model, scene.u), point, target);
    scene.setU(
      likely()
        ? uOf(
            model,
            theta,
            scene.u.map(() => 0),
            0.05 ** 2,
          )
        : uOf(model, theta, scene.u),
    );
  };
  const handled = ["affine", "tps"].includes(model.warp) && (straight || model.points === 3);
  const knobs = handled
    ? POINTS.map((name, i) => {
        const label = `${name} of the sampling grid${straight ? `, ${does(i)}` : ""}`;
        return knob(label, frame, () => extent, 1 / model.size[1], act(i));
      })
    : [];
  frame.append(...knobs);

  scene.on((changed) => {
    if (changed.size && !changed.has("latents")) return;
    const { canonical: own, theta } = scene.output;
    image.show(own);
    const coefficients = model.coefficients(theta);
    const drawn = moved(lines, lineFields, coefficients);
    if (!dragging) {
      const reach = drawn.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
      extent = [1.5, 2, 3].find((size) => reach < size * 0.96) ?? 4;
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
    path.setAttribute("d", [...Array(18).keys()].map(pathOf).join(""));
    edge.setAttribute("d", [0, 8, 9, 17].map(pathOf).join(""));
    const at = moved(points, pointFields, coefficients);
    knobs.forEach((each, i) => {
      const [x, y] = [at[2 * i], at[2 * i + 1]];
      each.show([x, y], `looks at x ${fixed(x)}, y ${fixed(y)}`);
    });
  });
  return frame;
}

/** The decoder's output. */
function output(scene) {
  const image = picture(scene.model.size, "output of the decoder");
  scene.on((changed) => {
    if (!changed.size || changed.has("latents")) image.show(scene.output.image);
  });
  return image;
}

/** The canonical image with its grid, and what comes out. A plain VAE has the latter alone. */
function drawing(scene, likely) {
  if (!scene.model.warp) return [panel("output", output(scene))];
  return [
    panel("canonical image, and where the output looks", stage(scene, likely)),
    panel("output", output(scene)),
  ];
}

// ---------------------------------------------------------------- view: pose

const NO_POSE = "A plain VAE has no u: where a digit lies is mixed into its z.";

function poseView(scene) {
  const { model } = scene;
  if (!model.warp)
    return [
      h("p", { class: "note" }, NO_POSE),
      h("div", { class: "row pictures" }, ...drawing(scene)),
    ];
  const likely = h("input", { type: "checkbox" });
  const price = h("p", { class: "note" });
  const sliders = [...Array(model.dim_u).keys()].map((i) =>
    slider(`u${sub(i)}`, `pose latent u ${i + 1}`, (value) => scene.with(model.dim_z + i, value)),
  );
  const isIdle = (row, i) => model.activity[model.dim_z + i] < ACTIVE;
  const idle = sliders.filter(isIdle);
  const group = (rows) =>
    h("div", { class: "sliders", role: "group", "aria-label": "pose latents" }, ...rows);
  scene.on(() => {
    const { u } = scene;
    sliders.forEach((row, i) => row.show(u[i]));
    const length = Math.hypot(...u);
    price.textContent =
      `u is ${fixed(length, length < 10 ? 1 : 0)} long; draws from the prior are about ` +
      `${fixed(Math.sqrt(model.dim_u), 1)}.`;
  });
  return [
    h("div", { class: "row pictures" }, ...drawing(scene, () => likely.checked)),
    h(
      "div",
      { class: "tools" },
      button("all u = 0", () => scene.setU(scene.u.map(() => 0))),
      button("random u", () => scene.setU(scene.random(model.dim_u))),
      button("random z", () => scene.setZ(scene.random(model.dim_z))),
      button("reset", () => scene.set(scene.q.mean)),
      h("label", { class: "check" }, likely, "drag only to likely poses"),
    ),
    price,
    group(sliders.filter((row) => !idle.includes(row))),
    idle.length
      ? h(
          "details",
          { open: idle.length === sliders.length },
          h("summary", {}, `${idle.length} idle latents, which tell nothing of the digits`),
          group(idle),
        )
      : null,
  ].filter(Boolean);
}

// ---------------------------------------------------------------- view: appearance

const TILES = 7;

/** A map of canonical images over two latents, and a knob on it. */
function pad(scene, axes) {
  const { model } = scene;
  const [height, width] = model.size;
  const map = picture([TILES * height, TILES * width], "map of canonical images");
  const square = h("div", { class: "pad" }, map);
  const step = 0.1;
  const point = knob(
    "appearance, two latents",
    square,
    () => RANGE,
    step,
    (target) => {
      if (!target) return;
      const latents = Float32Array.from(scene.latents);
      // Up is more, as on the axes of a plot.
      [latents[axes[0]], latents[axes[1]]] = [target[0], -target[1]];
      scene.set(latents);
    },
  );
  square.append(point);

  const sheet = new Float32Array(TILES * height * TILES * width);
  const drawTile = (tile, others) => {
    const [row, column] = [Math.floor(tile / TILES), tile % TILES];
    const z = Float32Array.from(others);
    z[axes[0]] = RANGE * ((2 * column + 1) / TILES - 1);
    z[axes[1]] = -RANGE * ((2 * row + 1) / TILES - 1);
    const image = canonical(model, z);
    for (let i = 0; i < height; i++) {
      const at = (row * height + i) * TILES * width + column * width;
      sheet.set(image.subarray(i * width, (i + 1) * width), at);
    }
  };
  let [stop, drawnFor] = [() => {}, ""];
  scene.on(() => {
    const { z } = scene;
    const [a, b] = axes.map((axis) => z[axis]);
    point.show([a, -b], `z ${axes[0] + 1} ${fixed(a)}, z ${axes[1] + 1} ${fixed(b)}`);
    const others = Float32Array.from(z);
    for (const axis of axes) others[axis] = 0;
    const key = [...axes, ...others].join();
    if (key === drawnFor) return;
    drawnFor = key;
    stop();
    let tile = 0;
    stop = inBackground(() => {
      drawTile(tile++, others);
      if (tile === TILES ** 2) map.show(sheet);
      return tile === TILES ** 2;
    });
  });
  return square;
}

function latentMenu(scene, label, chosen, act) {
  const options = scene.busiest.map((i) =>
    h(
      "option",
      { value: i, selected: i === chosen },
      `z${sub(i)}${scene.model.activity[i] < ACTIVE ? " (idle)" : ""}`,
    ),
  );
  const menu = h(
    "select",
    { "aria-label": label, onchange: () => act(Number(menu.value)) },
    ...options,
  );
  return menu;
}

function appearanceView(scene) {
  const { model } = scene;
  const axes = scene.busiest.slice(0, 2);
  let other = scene.busiest[2] ?? 0;
  const turn = (i) => (axis) => {
    axes[i] = axis;
    scene.change("latents");
  };
  const row = slider("", "value of the latent", (value) => scene.with(other, value));
  row.classList.add("wide");
  const menu = latentMenu(scene, "latent of the slider", other, (latent) => {
    other = latent;
    scene.change("latents");
  });
  row.firstChild.append("slider for ", menu);
  scene.on(() => row.show(scene.latents[other]));
  return [
    h(
      "div",
      { class: "row pictures" },
      panel("canonical images over two latents; drag the point", pad(scene, axes)),
      ...(model.warp ? [panel("canonical image", canonicalOf(scene))] : []),
      panel(model.warp ? "output, in the present pose" : "output", output(scene)),
    ),
    h(
      "div",
      { class: "tools" },
      h("label", {}, "across ", latentMenu(scene, "latent across", axes[0], turn(0))),
      h("label", {}, "up ", latentMenu(scene, "latent up", axes[1], turn(1))),
      button("random z", () => scene.setZ(scene.random(model.dim_z))),
      ...(model.dim_u ? [button("random u", () => scene.setU(scene.random(model.dim_u)))] : []),
      button("all z = 0", () => scene.setZ(scene.z.map(() => 0))),
      button("reset", () => scene.set(scene.q.mean)),
    ),
    h("div", { class: "tools" }, row),
  ];
}

function canonicalOf(scene) {
  const image = picture(scene.model.size, "canonical image");
  scene.on(() => image.show(scene.output.canonical));
  return image;
}

// ---------------------------------------------------------------- view: encode

/** The bundled digits as buttons. */
function strip(scene, act, isChosen) {
  const buttons = scene.digits.images.map((gray, i) => {
    const image = picture(scene.model.size, "");
    image.setAttribute("aria-hidden", "true");
    image.show(gray);
    const { labels } = scene.digits;
    const name = labels ? `a ${labels[i]}, number ${Math.floor(i / 10) + 1}` : `image ${i + 1}`;
    return button(image, () => act(i), { "aria-label": name, "aria-pressed": "false" });
  });
  scene.on(() =>
    buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(isChosen(i)))),
  );
  return h("div", { class: "strip", role: "group", "aria-label": "digits" }, ...buttons);
}

const SHEET = 280;

/** A sheet to draw on; `act` gets the drawing in the form of MNIST's digits. */
function sheet(scene, act) {
  const paper = h("canvas", {
    width: SHEET,
    height: SHEET,
    class: "sheet",
    role: "img",
    "aria-label":
      "sheet for drawing with mouse, pen or finger; the digits can be chosen by keyboard",
  });
  const hidden = h("canvas", { width: SHEET, height: SHEET });
  const [seen, ink] = [paper, hidden].map((each) =>
    each.getContext("2d", { willReadFrequently: true }),
  );
  let strokes = [];
  const draw = (context, width) => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SHEET, SHEET);
    Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round" });
    for (const stroke of strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      // A line of no length would not be drawn, and a dot be lost.
      for (const [x, y] of stroke) context.lineTo(x + 0.01, y);
      context.stroke();
    }
  };
  const hint = h("span", { class: "hint", "aria-hidden": "true" }, "draw here");
  const show = () => {
    hint.hidden = strokes.length > 0;
    draw(seen, 18);
    if (!strokes.length) return;
    // A pen as wide as MNIST's, measured in the digit's own size: 2.6 of its 20 pixels.
    const points = strokes.flat();
    const spread = [0, 1].map((axis) => {
      const values = points.map((point) => point[axis]);
      return Math.max(...values) - Math.min(...values);
    });
    draw(ink, Math.max(8, (Math.max(...spread) * 2.6) / (20 - 2.6)));
    const { data } = ink.getImageData(0, 0, SHEET, SHEET);
    const drawn = new Float32Array(SHEET * SHEET).map((_, i) => 1 - data[4 * i] / 255);
    const gray = centred(drawn, [SHEET, SHEET], scene.model.size);
    if (gray) act(gray); // null where all strokes lie beyond the edge
  };
  let frame = null;
  const soon = () => (frame ??= requestAnimationFrame(() => ((frame = null), show())));
  const where = (event) => {
    const box = paper.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map(
      (value) => (value / box.width) * SHEET,
    );
  };
  let pen = null;
  fill(
    paper,
    {
      onpointerdown: (event) => {
        event.preventDefault();
        paper.setPointerCapture(event.pointerId);
        strokes.push((pen = [where(event)]));
        soon();
      },
      onpointermove: (event) => {
        if (!pen) return;
        const path = event.getCoalescedEvents?.() ?? [];
        pen.push(...(path.length ? path : [event]).map(where));
        soon();
      },
      onlostpointercapture: () => (pen = null),
    },
    [],
  );
  const clear = () => {
    strokes = [];
    show();
  };
  show();
  scene.on((changed) => {
    if (changed.has("x") && scene.index !== null && strokes.length) clear();
  });
  return h(
    "div",
    { class: "sheetbox" },
    h("div", { class: "paper" }, paper, hint),
    button("clear", clear),
  );
}

/** Mean and one sigma of each latent of q, over the prior's own. */
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
  scene.on((changed) => {
    if (changed.size && !changed.has("x")) return;
    const { mean, sigma } = scene.q;
    bars.forEach(([line, dot], i) => {
      const [m, d] = [mean[latents[i]], sigma[latents[i]]];
      dot.setAttribute("cy", y(m));
      line.setAttribute("y1", y(m - d));
      line.setAttribute("y2", y(m + d));
    });
    svg.setAttribute("aria-label", `q(${name} | x): mean and sigma of ${n} latents`);
  });
  return panel(`q(${name} | x): mean ± σ, busiest latents first; the band is the prior's`, svg);
}

function table(rows) {
  const cells = rows.map(([name]) => h("td", {}));
  const body = rows.map(([name, hint], i) =>
    h("tr", {}, h("th", { scope: "row", title: hint }, name), cells[i]),
  );
  const element = h("table", {}, h("tbody", {}, ...body));
  element.show = (values) => values.forEach((value, i) => (cells[i].textContent = value));
  return element;
}

/** -E_q log p(x | z, u) and its standard error over some draws, always the same. */
function reconstruction({ model, x, q }) {
  const uniform = uniforms(0);
  const losses = [...Array(RECON_DRAWS)].map(() => {
    const noise = normals(uniform, q.mean.length);
    return -logLik(
      decode(
        model,
        q.mean.map((m, i) => m + q.sigma[i] * noise[i]),
      ).logits,
      x,
    );
  });
  const mean = losses.reduce((a, b) => a + b) / RECON_DRAWS;
  const squares = losses.reduce((total, loss) => total + (loss - mean) ** 2, 0);
  return [mean, Math.sqrt(squares / (RECON_DRAWS - 1) / RECON_DRAWS)];
}

function numbers(scene) {
  const { model } = scene;
  const rows = [
    ["reconstruction loss", `-log p(x | z, u), mean of ${RECON_DRAWS} draws of q`],
    ["KL of z", "KL(q(z | x) || p(z))"],
    ...(model.dim_u ? [["KL of u", "KL(q(u | x) || p(u))"]] : []),
    ["sum, −ELBO", "the negative evidence lower bound"],
  ];
  const shown = table(rows);
  let stop = () => {};
  scene.on((changed) => {
    if (changed.size && !changed.has("x")) return;
    stop();
    stop = inBackground(() => {
      const [loss, se] = reconstruction(scene);
      const nats = split(model, kl(scene.q)).map((each) => each.reduce((a, b) => a + b, 0));
      if (!model.dim_u) nats.pop();
      const total = nats.reduce((a, b) => a + b, loss);
      shown.show([
        `${fixed(loss)} ± ${fixed(se)}`,
        ...nats.map((each) => fixed(each)),
        fixed(total),
      ]);
      return true;
    });
  });
  const pixels = model.binarized
    ? ""
    : " Gray pixels: the loss is a cross-entropy, and no −log probability.";
  return h("figure", { class: "numbers" }, shown, h("figcaption", {}, `In nats.${pixels}`));
}

/** Appearance of one digit, pose of the other. */
function swap(scene, second) {
  const { model } = scene;
  const images = [
    "second digit",
    "first, lying like the second",
    "second, lying like the first",
  ].map((label) => [label, picture(model.size, label)]);
  scene.on((changed) => {
    if (changed.size && !changed.has("x")) return;
    const other = second();
    const [[z1, u1], [z2, u2]] = [scene.q, other.q].map((q) => split(model, q.mean));
    const mix = (z, u) => decode(model, Float32Array.from([...z, ...u])).image;
    [other.x, mix(z1, u2), mix(z2, u1)].forEach((image, i) => images[i][1].show(image));
  });
  return h("div", { class: "row small" }, ...images.map(([label, image]) => panel(label, image)));
}

function encodeView(scene) {
  const { model, digits } = scene;
  const x = picture(model.size, "the image");
  scene.on((changed) => {
    if (!changed.size || changed.has("x")) x.show(scene.x);
  });
  let other = Math.min(14, digits.images.length - 1);
  const second = () => {
    const x = scene.asTrained(digits.images[other]);
    return { x, q: encode(model, x) };
  };
  let picking = 0;
  const picks = ["first digit", "second digit"].map((name, i) =>
    button(name, () => {
      picking = i;
      scene.change("pick");
    }),
  );
  const choose = (i) => {
    if (picking === 0) return scene.choose(i);
    other = i;
    scene.change("x");
  };
  const pick = h(
    "div",
    { class: "tools", role: "group", "aria-label": "choose" },
    "choose the ",
    ...picks,
  );
  scene.on(() =>
    picks.forEach((each, i) => each.setAttribute("aria-pressed", String(picking === i))),
  );
  return [
    h(
      "div",
      { class: "row choose" },
      h(
        "div",
        { class: "grow" },
        model.dim_u ? pick : null,
        strip(scene, choose, (i) => i === (picking ? other : scene.index)),
      ),
      sheet(scene, (gray) => scene.take(gray)),
    ),
    h(
      "div",
      { class: "row pictures" },
      panel(model.binarized ? "x, binary as in training" : "x", x),
      ...drawing(scene),
    ),
    h(
      "div",
      { class: "tools" },
      button("back to the reconstruction", () => scene.set(scene.q.mean)),
    ),
    ...(model.dim_u ? [swap(scene, second)] : []),
    h(
      "div",
      { class: "row plots" },
      h(
        "div",
        { class: "grow" },
        posteriorPlot(scene, "z", scene.busiest),
        model.dim_u ? posteriorPlot(scene, "u", scene.busiestU) : null,
      ),
      numbers(scene),
    ),
  ];
}

// ---------------------------------------------------------------- view: bounds

/** Axes of a plot in an SVG: places in per cent across, in pixels down. */
const PLOT = { height: 170, left: 13, top: 8, bottom: 26 };

function plotFrame(label, left, xs = [], xName = "") {
  const { height, bottom } = PLOT;
  const low = height - bottom;
  const svg = s(
    "svg",
    { class: "plot", height, role: "img", "aria-label": label },
    s("line", { class: "axis", x1: `${left}%`, x2: "100%", y1: low, y2: low }),
    ...xs.map(([x, text]) => s("text", { x: `${x}%`, y: low + 13, "text-anchor": "middle" }, text)),
    s("text", { x: "100%", y: height - 2, "text-anchor": "end" }, xName),
  );
  const layer = s("g", {});
  svg.append(layer);
  svg.draw = (...marks) => layer.replaceChildren(...marks.flat());
  return svg;
}

const ticks = (low, high, n = 4) => {
  const rough = (high - low) / n || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((each) => each >= rough);
  const from = Math.ceil(low / step) * step;
  return [...Array(Math.floor((high - from) / step) + 1).keys()].map((i) => from + i * step);
};

const across = (k) => PLOT.left + 2 + (95 - PLOT.left) * (Math.log(k) / Math.log(MOST_DRAWS));

/** Bounds with k = 1, 2, 5, ... draws, against k. */
function boundPlot() {
  const labels = [1, 10, 100, 1000].map((k) => [across(k), String(k)]);
  const svg = plotFrame("bounds on log p(x) against k", PLOT.left, labels, "k, draws in a bound");
  const { height, left, top, bottom } = PLOT;
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
        curve
          .slice(1)
          .map((to, i) =>
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

const BINS = 36;

/** Histogram of log-weights, with the ELBO and the estimate of log p(x). */
function weightPlot() {
  const svg = plotFrame("histogram of the log-weights", 0);
  const { height, top, bottom } = PLOT;
  const low = height - bottom;
  return Object.assign(svg, {
    show(logW, elbo, logP) {
      // The left tail may be long: all below the first hundredth goes into the first bin.
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

function boundsView(scene) {
  const { model } = scene;
  const x = picture(model.size, "the image");
  let logW = new Float64Array(0);
  let [stop, running] = [() => {}, false];
  const [curvePlot, histogram] = [boundPlot(), weightPlot()];
  const shown = table([
    ["draws k", ""],
    ["ELBO", "mean of log w"],
    ["log p(x), estimated", "log of the mean of w, ± standard error"],
    ["effective sample size", "(sum w)² / sum w²"],
    ["largest weight's share", "max w / sum w"],
  ]);
  const status = h("p", { class: "hidden", role: "status" });
  const limit = h("input", {
    type: "range",
    min: 0,
    max: MARKS.length - 1,
    step: 1,
    value: MARKS.length - 1,
    "aria-label": "number of draws",
    oninput: () => show(),
  });
  const limitShown = h("output", {});
  const target = () => MARKS[limit.valueAsNumber];
  const start = button("draw", () => (running ? pause() : go()));

  function show() {
    limitShown.textContent = target().toLocaleString("en");
    limit.setAttribute("aria-valuetext", `${target()} draws`);
    start.textContent = running ? "pause" : logW.length ? "draw on" : "draw";
    start.disabled = !running && logW.length >= target();
    const used = logW.subarray(0, target());
    for (const plot of [curvePlot, histogram]) plot.classList.toggle("empty", used.length < 2);
    if (used.length < 2) return shown.show(["0", "", "", "", ""]);
    const { logP, se, ess } = estimate(used);
    const ks = [...MARKS.filter((k) => k < used.length), used.length];
    const curve = ks.map((k) => bound(used, k));
    Object.assign(curve.at(-1), { se });
    curvePlot.show(curve);
    histogram.show(used, curve[0].mean, logP);
    const share = Math.exp(Math.max(...used) - logSumExp(used));
    const rows = [
      used.length.toLocaleString("en"),
      `${fixed(curve[0].mean)} ± ${fixed(curve[0].se)}`,
      `${fixed(logP)} ± ${fixed(se)}`,
      fixed(ess, ess < 10 ? 1 : 0),
      `${fixed(100 * share, 0)} %`,
    ];
    shown.show(rows);
    if (!running) {
      status.textContent = `${rows[0]} draws: ELBO ${rows[1]}, log p of x ${rows[2]} nats.`;
    }
  }

  function pause() {
    stop();
    running = false;
    show();
  }

  function go() {
    running = true;
    const goal = target();
    const all = new Float64Array(goal);
    all.set(logW);
    let drawn = logW.length;
    let next = 0;
    const uniform = uniforms(1 + drawn + 7919 * (scene.index ?? 99));
    const { q, x: image } = scene;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    stop = inBackground(() => {
      if (!start.isConnected) return true; // another model is shown
      all[drawn++] = particle(model, image, q, normals(uniform, q.mean.length)).logW;
      const done = drawn === goal;
      if (done || (!still && performance.now() > next)) {
        next = performance.now() + SHOW_MS;
        logW = all.subarray(0, drawn);
        if (done) running = false;
        show();
      }
      return done;
    });
    show();
  }

  let drawnFor = null;
  scene.on((changed) => {
    if (changed.size && !changed.has("x")) return;
    x.show(scene.x);
    if (drawnFor === scene.x) return;
    drawnFor = scene.x;
    stop();
    running = false;
    logW = new Float64Array(0);
    show();
  });
  const again = button("start again", () => {
    pause();
    logW = new Float64Array(0);
    show();
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
        strip(
          scene,
          (i) => scene.choose(i),
          (i) => i === scene.index,
        ),
      ),
      panel("x", x),
    ),
    h(
      "div",
      { class: "tools" },
      start,
      again,
      h("label", { class: "slider wide" }, h("span", {}, "k up to"), limit, limitShown),
    ),
    h(
      "div",
      { class: "row plots even" },
      panel("bounds: means over groups of k draws, in nats", curvePlot),
      panel("log-weights of all draws, in nats", histogram),
    ),
    h("figure", { class: "numbers" }, shown, h("figcaption", {}, `In nats.${pixels}`)),
    status,
  ];
}

// ---------------------------------------------------------------- putting it together

const VIEWS = {
  pose: ["Pose: drag the grid", poseView],
  appearance: ["Appearance: move through z", appearanceView],
  encode: ["Encode: a digit's z and u", encodeView],
  bounds: ["Bounds: draw importance samples", boundsView],
};

const DECODERS = { plain: "plain", affine: "affine", tps: "thin-plate spline" };
const OBJECTIVES = {
  vae: "VAE, gray pixels",
  multi5: "multi-sample, 5 draws",
  iwae5: "IWAE, 5 draws",
};

/** Keep an element's data-theme at what the page around it shows. */
function followTheme(element) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => {
    const [page, body] = [document.documentElement, document.body];
    if (page.dataset.theme) return page.dataset.theme === "dark"; // the book
    if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false"; // JupyterLab
    if (page.getAttribute("theme")) return page.getAttribute("theme") === "dark"; // Colab
    if (body.dataset.vscodeThemeKind) return /dark/.test(body.dataset.vscodeThemeKind);
    return system.matches;
  };
  const follow = () => (element.dataset.theme = dark() ? "dark" : "light");
  const watcher = new MutationObserver(follow);
  for (const each of [document.documentElement, document.body]) {
    watcher.observe(each, { attributes: true });
  }
  system.addEventListener("change", follow);
  follow();
}

/** The elements of a view, or of all, of a scene. */
function viewsOf(scene, view) {
  const names = view === "all" ? Object.keys(VIEWS) : [view];
  return names.map((name) => {
    const [title, build] = VIEWS[name];
    return h(
      "section",
      { "aria-label": title, class: name },
      view === "all" ? h("div", { class: "title" }, title) : null,
      ...build(scene),
    );
  });
}

function shell(host) {
  const body = h("div", { class: "explorer" });
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  root.replaceChildren(h("style", {}, STYLE), body);
  followTheme(body);
  return body;
}

const halves = async ({ packed, ...config }) =>
  buildModel(config, fromHalves(await inflate(packed)));

async function digitsOf({ labels, packed }, size) {
  const bytes = await inflate(packed);
  const n = size[0] * size[1];
  const images = labels.map((_, i) =>
    Float32Array.from(bytes.subarray(i * n, (i + 1) * n), (v) => v / 255),
  );
  return { labels, images };
}

// ---------------------------------------------------------------- in a page

const here = document.currentScript?.src;
const loading = {};

/** What the script `name` of explorer.js's folder brings. Not a fetch: file:// pages have none. */
function load(name) {
  loading[name] ??= new Promise((resolve, reject) => {
    const { files, loaded } = globalThis.tvaeExplorer;
    if (!files[name]) {
      const known = Object.keys(files).filter((each) => each !== "digits");
      return reject(new Error(`unknown model "${name}"; known: ${known.join(", ")}`));
    }
    const script = h("script", {
      src: new URL(files[name], here),
      onload: () => resolve(loaded[name]),
      onerror: () => reject(new Error(`could not load ${files[name]}`)),
    });
    document.head.append(script);
  });
  return loading[name];
}

const models = {};
const modelOf = (name) => (models[name] ??= load(name).then(halves));

/** Menus for the decoder and the objective of the shown model. */
function menus(name, act) {
  const menu = (label, options, value) =>
    h(
      "select",
      { "aria-label": label, onchange: () => act(chosen()) },
      ...Object.entries(options).map(([each, text]) =>
        h("option", { value: each, selected: each === value }, text),
      ),
    );
  const [decoder, objective] = name.split("-");
  const which = menu("decoder", DECODERS, decoder);
  const how = menu("objective", OBJECTIVES, objective);
  const chosen = () => `${which.value}-${how.value}`;
  return h(
    "div",
    { class: "tools models" },
    h("label", {}, "decoder ", which),
    h("label", {}, "trained as ", how),
  );
}

/** What the elements of a page with the same `group` share: the model, the digit, the latents. */
class Group {
  members = [];

  /** Show this model in all elements, with a digit, or with what was shown before. */
  async show(name, start) {
    this.name = name;
    const [model, stored] = await Promise.all([modelOf(name), load("digits")]);
    const digits = await digitsOf(stored, model.size);
    if (this.name !== name) return; // another one has been chosen meanwhile
    this.scene = new Scene(model, digits, this.scene ?? start);
    for (const member of this.members) this.fill(member);
  }

  fill({ body, view, choose }) {
    if (!this.scene) return;
    const choice = choose ? [menus(this.name, (name) => this.show(name))] : [];
    body.replaceChildren(...choice, ...viewsOf(this.scene, view));
  }
}

const groups = {};

/**
 * <tvae-explorer view="pose" model="affine-iwae5" digit="5" choose="decoder" group="one">, with a
 * picture inside. `choose` gives it menus for other models, `group` is explained above.
 */
class TvaeExplorer extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    // The picture stays until the views can take its place.
    this.attachShadow({ mode: "open" }).append(h("slot", {}));
    // Models are large: only what comes near the window is loaded.
    const near = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        near.disconnect();
        this.start();
      },
      { rootMargin: "800px" },
    );
    near.observe(this);
  }

  /** z and u of the shown picture, once the attribute `ready` is there. */
  get latents() {
    return Array.from(this.group.scene.latents);
  }

  set latents(values) {
    this.group.scene.set(values);
  }

  async start() {
    const [view, name] = [this.getAttribute("view"), this.getAttribute("model")];
    try {
      if (view !== "all" && !VIEWS[view]) {
        throw new Error(`unknown view "${view}"; known: ${Object.keys(VIEWS).join(", ")}, all`);
      }
      const own = this.getAttribute("group") ?? Symbol("of its own");
      this.group = groups[own] ??= new Group();
      this.group.showing ??= this.group.show(name, {
        index: Number(this.getAttribute("digit") ?? 5),
      });
      await this.group.showing;
      const member = { body: shell(this), view, choose: this.hasAttribute("choose") };
      this.group.members.push(member);
      this.group.fill(member);
      this.setAttribute("ready", "");
    } catch (error) {
      const words = h("p", { role: "alert" }, `The explorer did not start: ${error.message}.`);
      this.shadowRoot.replaceChildren(words, h("slot", {}));
    }
  }
}

if (here && !customElements.get("tvae-explorer")) {
  customElements.define("tvae-explorer", TvaeExplorer);
}

// ---------------------------------------------------------------- in a notebook

/** anywidget's entry: traits `config`, `weights`, `digits`, `view`, and `z` and `u`, both ways. */
function render({ model, el }) {
  const host = h("div", {});
  el.append(host);
  const bytes = (name) => {
    const data = model.get(name); // a view that may begin anywhere: copied, so that it is aligned
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  };
  const config = model.get("config");
  const own = buildModel(config, new Float32Array(bytes("weights").buffer));
  const n = config.size[0] * config.size[1];
  const pixels = bytes("digits");
  const images = Array.from({ length: pixels.length / n }, (_, i) =>
    Float32Array.from(pixels.subarray(i * n, (i + 1) * n), (v) => v / 255),
  );
  const scene = new Scene(own, { labels: null, images });
  shell(host).append(...viewsOf(scene, model.get("view")));
  const take = () => scene.set([...model.get("z"), ...model.get("u")]);
  const same = (a, b) =>
    a.length === b.length && a.every((value, i) => Math.abs(value - b[i]) < 1e-6);
  take();
  model.on("change:z", take);
  model.on("change:u", take);
  let timer = null;
  const give = () => {
    timer = null;
    const [z, u] = [scene.z, scene.u].map((latents) => Array.from(latents));
    if (same(z, model.get("z")) && same(u, model.get("u"))) return;
    model.set("z", z);
    model.set("u", u);
    model.save_changes();
  };
  scene.on((changed) => {
    if (changed.has("latents")) timer ??= setTimeout(give, 50);
  });
  return () => {
    clearTimeout(timer);
    model.off("change:z", take);
    model.off("change:u", take);
  };
}

export default { render };
