// Lets a reader commit to a prediction before its answer opens: in words or a number, by one of the
// listed options, or by a sketch on the empty axes of the plot that is the answer.
//
// Without this script the answers are folded. Guesses last as long as the page.
"use strict";
{
  const SVG = "http://www.w3.org/2000/svg";
  const ANSWER = /^(Your guess|Answer|The answer|Show the (output|code and its)|Solution)/;
  // An answer far below its prediction, to one that stands in the opening question.
  const LATER = /^Your guess|prediction/;
  const DATA = /(line2d|patch|text|(Path|Line|Poly)\w*Collection|QuadMesh)_\d+$/;

  const { make, choices } = globalThis.pageElements; // of elements.js
  const summaryOf = (fold) => fold.querySelector("summary").textContent.trim();

  /** The plot of an answer, if it has axes with numbers. */
  const plotOf = (folds) =>
    folds
      .flatMap((fold) => [...fold.querySelectorAll("svg.plot")])
      .find((plot) => [1, 2].every((i) => plot.querySelector(`[id$="matplotlib.axis_${i}"] [id*="text_"]`)));

  /** A copy of a plot without what it shows, to draw on, and the paths of what has been drawn. */
  function emptyAxes(plot) {
    const holder = make("div");
    holder.innerHTML = plot.outerHTML.replace(/plot-(?=\d+-)/g, "sketch-plot-"); // its own ids
    const axes = holder.firstElementChild;
    axes.setAttribute("aria-label", "Empty axes, to sketch your guess on");
    axes.classList.add("sheet");
    for (const panel of axes.querySelectorAll('[id*="axes_"]')) {
      const [paper, ...others] = panel.children;
      const top = /M [\d.]+ [\d.]+[^]*?L [\d.]+ ([\d.]+)[^L]*z/.exec(paper.querySelector("path")?.getAttribute("d"))?.[1];
      for (const part of others) {
        const isSpine = part.id.includes("patch_") && /fill: none/.test(part.innerHTML) && /square/.test(part.innerHTML);
        const title = part.id.includes("text_") && /translate\([\d.]+ ([\d.]+)/.exec(part.innerHTML);
        if (DATA.test(part.id) && !isSpine && !(title && Number(title[1]) < Number(top))) part.remove();
      }
    }
    for (const picture of axes.querySelectorAll("image")) picture.remove(); // their ids are hashes
    const strokes = [];
    let points = null;
    const at = (event) => {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(axes.getScreenCTM().inverse());
      return `${x.toFixed(1)} ${y.toFixed(1)}`;
    };
    axes.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || axes.classList.contains("done")) return;
      axes.setPointerCapture(event.pointerId);
      points = [at(event)];
      strokes.push(document.createElementNS(SVG, "path"));
      strokes.at(-1).setAttribute("class", "sketch");
      axes.append(strokes.at(-1));
    });
    axes.addEventListener("pointermove", (event) => {
      if (points === null) return;
      points.push(at(event));
      strokes.at(-1).setAttribute("d", `M ${points.join(" L ")}`);
    });
    for (const end of ["pointerup", "pointercancel"]) axes.addEventListener(end, () => (points = null));
    return { axes, strokes };
  }

  /** What stands below a prediction until the reader commits. `place` inserts it. */
  function offer(place, options, folds, told) {
    const plot = plotOf(folds);
    let sheet = null;
    const input = make("input", { type: "text", "aria-label": "Your guess", placeholder: "your guess" });
    const form = make("form", { class: "guess" });
    const name = `guess-${document.querySelectorAll("form.guess").length}`;
    choices(options, name, (option) => option.textContent.trim());
    const chosen = () => options.map((option) => option.querySelector("input")).find((radio) => radio.checked);
    const commit = make("button", { type: "submit" }, folds.length ? "Commit, and see the answer" : "Commit");
    form.append(...(options.length ? [] : [input]), commit);
    if (plot) {
      const sketch = make("button", { type: "button" }, "Sketch it");
      sketch.addEventListener("click", () => {
        sheet?.axes.remove();
        sheet = emptyAxes(plot);
        form.append(sheet.axes);
        sketch.textContent = "Start again";
      });
      form.append(sketch);
    }
    const said = make("p", { class: "said", role: "status", "aria-live": "polite" });
    form.append(said);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const words = options.length ? chosen()?.value : input.value.trim();
      const drawn = sheet?.strokes.filter((stroke) => stroke.hasAttribute("d")) ?? [];
      if (!words && !drawn.length) {
        said.textContent = options.length ? "Choose one first." : "Write something first, if only a number.";
        return;
      }
      const guess = `Your guess: ${words || "as you have drawn it"}`;
      for (const control of form.querySelectorAll("input, button")) control.remove();
      for (const option of options) option.querySelector("input").disabled = true;
        said.textContent = folds.length ? guess : `${guess.replace(/\.$/, "")}. Read on.`;
      sheet?.axes.classList.add("done");
      for (const stroke of drawn) plot.append(stroke.cloneNode());
      told(guess);
      folds[0]?.querySelector("summary").after(make("p", { class: "said" }, guess));
      for (const fold of folds) fold.open = true;
    });
    place(form);
  }

  // Each prediction with the folds between it and the next prediction or heading.
  const predictions = [];
  const later = [];
  for (const element of document.querySelectorAll("article :is(strong, details, h2)")) {
    if (element.tagName === "H2") {
      predictions.push(null); // what follows answers nothing above
    } else if (element.tagName === "STRONG") {
      const asked = element.closest("p, li");
      if (!/^Predict/.test(element.textContent) || !asked || element.closest("details")) continue;
      predictions.push({ asked, folds: [] });
    } else if (!element.closest(".tvae-question") && ANSWER.test(summaryOf(element))) {
      const last = predictions.at(-1);
      if (last) last.folds.push(element);
      else if (LATER.test(summaryOf(element))) later.push(element);
    }
  }
  const opening = [];
  const told = (guess) => {
    opening.push(guess);
    for (const fold of later) {
      fold.querySelector("ul.said")?.remove();
      const list = make("ul", { class: "said" }, ...opening.map((each) => make("li", {}, each)));
      fold.querySelector("summary").after(list);
    }
  };
  for (const prediction of predictions) {
    if (prediction === null) continue;
    const { asked, folds } = prediction;
    const list = asked.nextElementSibling?.tagName === "OL" ? asked.nextElementSibling : null;
    const remember = folds.length ? () => {} : told;
    if (list && asked.textContent.trim().endsWith(":"))
      for (const item of list.children) offer((form) => item.append(form), [], folds, remember);
    else offer((form) => (list ?? asked).after(form), list ? [...list.children] : [], folds, remember);
  }
}
