// A sheet to draw a digit on.
import { centred } from "./centring.mjs";
import { button, fill, h, isPrimary } from "./elements.mjs";

const SHEET = 280; // pixels a side
const PEN = 18; // its width in pixels, as the reader sees it
// The width of MNIST's pen, in pixels of a digit whose longer side takes 20.
const MNIST_PEN = 2.6;

/** A sheet to draw on. `act` receives the drawing, prepared as MNIST's digits were. */
export function drawingSheet(scene, act) {
  const paper = h("canvas", {
    width: SHEET,
    height: SHEET,
    class: "sheet",
    role: "img",
    "aria-label":
      "sheet for drawing with mouse, pen or finger; the digits can be chosen by keyboard",
  });
  const hidden = h("canvas", { width: SHEET, height: SHEET });
  const [visible, ink] = [paper, hidden].map((each) =>
    each.getContext("2d", { willReadFrequently: true }),
  );
  const draw = (context, width) => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SHEET, SHEET);
    Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round" });
    for (const stroke of scene.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      // The canvas draws nothing for a line of length 0, so a dot needs a little length.
      for (const [x, y] of stroke) context.lineTo(x + 0.01, y);
      context.stroke();
    }
  };
  const hint = h("span", { class: "hint", "aria-hidden": "true" }, "draw here");
  const paint = () => {
    hint.hidden = scene.strokes.length > 0;
    draw(visible, PEN);
  };
  const show = () => {
    paint();
    if (!scene.strokes.length) return;
    // Draw again with a pen as wide as MNIST's in proportion to this digit, however small it is.
    const points = scene.strokes.flat();
    const spread = [0, 1].map((axis) => {
      const values = points.map((point) => point[axis]);
      return Math.max(...values) - Math.min(...values);
    });
    draw(ink, Math.max(8, (Math.max(...spread) * MNIST_PEN) / (20 - MNIST_PEN)));
    const { data } = ink.getImageData(0, 0, SHEET, SHEET);
    const drawn = new Float32Array(SHEET * SHEET).map((_, i) => 1 - data[4 * i] / 255);
    const gray = centred(drawn, [SHEET, SHEET], scene.model.size);
    if (gray) act(gray); // null if all strokes are off the sheet
  };
  let frame = null;
  const showSoon = () => (frame ??= requestAnimationFrame(() => ((frame = null), show())));
  const where = (event) => {
    const box = paper.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map(
      (value) => (value / box.width) * SHEET,
    );
  };
  let stroke = null;
  fill(
    paper,
    {
      onpointerdown: (event) => {
        if (!isPrimary(event)) return;
        event.preventDefault();
        paper.setPointerCapture(event.pointerId);
        scene.strokes.push((stroke = [where(event)]));
        showSoon();
      },
      onpointermove: (event) => {
        if (!stroke || !event.isPrimary) return;
        const events = event.getCoalescedEvents?.() ?? [];
        stroke.push(...(events.length ? events : [event]).map(where));
        showSoon();
      },
      onlostpointercapture: () => (stroke = null),
    },
    [],
  );
  paint();
  scene.on(["x"], () => {
    const bundledDigit = scene.index !== null;
    if (!bundledDigit || !scene.strokes.length) return;
    scene.strokes = [];
    paint();
  });
  return h(
    "div",
    { class: "sheetbox" },
    h("div", { class: "paper" }, paper, hint),
    // The drawing goes from all figures, and its numbers with it.
    button("clear", () => scene.choose(scene.chosen)),
  );
}
