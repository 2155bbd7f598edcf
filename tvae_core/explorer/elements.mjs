// The elements that the views are made of. Pictures are canvases with one pixel per image pixel;
// lines and plots are SVG; whatever can be dragged is an element with the role of a slider.

/** How far sliders and plots reach, in standard deviations of the prior. */
export const RANGE = 3;

/** Set an element's attributes, listeners (named on...) and children. */
export function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** A new HTML element. */
export const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** A new SVG element. */
export const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

export const button = (text, act, attributes = {}) =>
  h("button", { type: "button", onclick: act, ...attributes }, text);

/** An index as a subscript, counting from 1. */
export const subscript = (i) => String(i + 1).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

export const fixed = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

/** A picture of gray values, where 0 is white and 1 is black. */
export function picture([height, width], label) {
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

export const panel = (caption, ...children) =>
  h("figure", {}, ...children, h("figcaption", {}, caption));

/**
 * The line under a figure that says what has just happened. It is announced while the reader is in
 * its figure (views.mjs), since figures that share a scene all change at once.
 */
export const said = () => h("p", { class: "said", role: "status", "aria-live": "off" });

/** A table with one row for each [name, hint], and one value in each row. */
export function table(rows) {
  const cells = rows.map(() => h("td", {}));
  const body = rows.map(([name, hint], i) =>
    h("tr", {}, h("th", { scope: "row", title: hint }, name), cells[i]),
  );
  const element = h("table", {}, h("tbody", {}, ...body));
  element.show = (values) => values.forEach((value, i) => (cells[i].textContent = value));
  return element;
}

/** A slider with its name and its value. It can also show values beyond its ends. */
export function slider(name, label, act, { min = -RANGE, max = RANGE, step = 0.01 } = {}) {
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

/** Whether a pointer's event can start a drag: the first finger, or the main button of a mouse. */
export const isPrimary = (event) => event.isPrimary && event.button === 0;

/**
 * A point on the square [-extent, extent]^2 that can be dragged, or moved with the arrow keys.
 *
 * Each move calls act([x, y]). When the reader lets go, act(null) follows.
 */
export function knob(label, square, extent, step, act) {
  const at = [0, 0];
  let aim = null; // where the arrow keys have asked for: what they move need not follow all the way
  let grip = null; // from where the pointer took hold to the knob's centre
  const where = (event) => {
    const box = square.getBoundingClientRect();
    return [
      (((event.clientX - box.left) / box.width) * 2 - 1) * extent(),
      (((event.clientY - box.top) / box.height) * 2 - 1) * extent(),
    ];
  };
  const inside = (xy) => xy.map((value) => Math.min(Math.max(value, -extent()), extent()));
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
      if (!isPrimary(event)) return;
      aim = null;
      const [x, y] = where(event);
      grip = [at[0] - x, at[1] - y];
      element.setPointerCapture(event.pointerId);
      event.preventDefault();
      element.focus({ preventScroll: true });
    },
    onpointermove: (event) => {
      if (!grip || !event.isPrimary) return;
      act(inside(where(event).map((value, i) => value + grip[i])));
    },
    onblur: () => (aim = null),
    onlostpointercapture: () => {
      grip = null;
      act(null);
    },
    onkeydown: (event) => {
      const direction = arrows[event.key];
      if (!direction) return;
      event.preventDefault();
      const far = step * (event.shiftKey ? 5 : 1);
      aim = inside((aim ?? at).map((value, i) => value + direction[i] * far));
      act(aim);
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
