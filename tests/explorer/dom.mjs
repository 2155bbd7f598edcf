// As much of a browser's page as the explorer's views need, so that they run in Node.

class Style {
  setProperty() {}
}

class Element {
  attributes = {};
  children = [];
  listeners = {};
  style = new Style();
  dataset = {};
  isConnected = true;
  hidden = false;
  disabled = false;
  parent = null;

  constructor(tag) {
    this.tag = tag;
    this.classList = {
      add: (...names) => names.forEach((name) => this.classList.toggle(name, true)),
      contains: (name) => this.classes.includes(name),
      toggle: (name, on = !this.classes.includes(name)) => {
        const others = this.classes.filter((each) => each !== name);
        this.attributes.class = [...others, ...(on ? [name] : [])].join(" ");
      },
    };
  }

  get classes() {
    return (this.attributes.class ?? "").split(" ").filter(Boolean);
  }

  // ------------------------------------------------------------ the tree

  append(...children) {
    for (const child of children.flat()) {
      if (child instanceof Element) child.parent = this;
      this.children.push(child instanceof Element ? child : String(child));
    }
  }

  replaceChildren(...children) {
    this.children = [];
    this.append(...children);
  }

  get firstChild() {
    return this.children[0];
  }

  get textContent() {
    return this.children.map((child) => child.textContent ?? child).join("");
  }

  set textContent(text) {
    this.children = text === "" ? [] : [String(text)];
  }

  /** This element and all below it for which `test` holds. */
  all(test) {
    const below = this.children.flatMap((child) => child.all?.(test) ?? []);
    return test(this) ? [this, ...below] : below;
  }

  /** The only element with this role or tag, and this name: its aria-label or its text. */
  the(tag, name) {
    const named = (e) => (e.attributes["aria-label"] ?? e.textContent) === name;
    const found = this.all((e) => [e.tag, e.attributes.role].includes(tag) && named(e));
    if (found.length !== 1) throw new Error(`${found.length} of ${tag} "${name}"`);
    return found[0];
  }

  // ------------------------------------------------------------ attributes and events

  setAttribute(name, value) {
    this.attributes[name] = String(value);
    if (name === "value") this.value = value;
    if (name === "checked") this.checked = true;
  }

  getAttribute(name) {
    return this.attributes[name] ?? null;
  }

  get valueAsNumber() {
    return Number(this.value);
  }

  addEventListener(type, act) {
    (this.listeners[type] ??= []).push(act);
  }

  fire(type, event = {}) {
    const given = { preventDefault: () => {}, target: this, isPrimary: true, button: 0, ...event };
    for (const act of this.listeners[type] ?? []) act(given);
  }

  click() {
    if (!this.disabled) this.fire("click");
  }

  // ------------------------------------------------------------ what only some elements have

  focus() {}
  setPointerCapture() {}
  getBoundingClientRect = () => ({ left: 0, top: 0, width: 100, height: 100 });

  /** A context that notes what `picture` shows, and draws lines as dots of ink. */
  getContext() {
    let dots = [];
    return {
      createImageData: (w, h) => ({ data: new Uint8ClampedArray(4 * w * h) }),
      putImageData: ({ data }) => {
        // 0 is white and 1 is black.
        this.gray = Array.from({ length: data.length / 4 }, (_, i) => 1 - data[4 * i] / 255);
      },
      fillRect: () => ([dots, this.strokes] = [[], 0]),
      beginPath: () => {},
      moveTo: () => this.strokes++,
      lineTo: (x, y) => dots.push([Math.round(x), Math.round(y)]),
      stroke: () => {},
      getImageData: (_, __, w, h) => {
        const data = new Uint8ClampedArray(4 * w * h).fill(255);
        for (const [x, y] of dots) {
          for (let i = -8; i < 9; i++) data.fill(0, 4 * ((y + i) * w + x - 8), 4 * ((y + i) * w + x + 8));
        }
        return { data };
      },
    };
  }
}

let waiting = 0; // frames that have been asked for

/** Wait until nothing is left to draw. */
export async function settle() {
  do await new Promise((done) => setImmediate(done));
  while (waiting);
}

/** Make the globals of a page. */
export function makePage({ reducedMotion = false } = {}) {
  globalThis.document = {
    createElement: (tag) => new Element(tag),
    createElementNS: (_, tag) => new Element(tag),
  };
  globalThis.requestAnimationFrame = (draw) => {
    waiting++;
    return setImmediate(() => (draw(), waiting--));
  };
  globalThis.matchMedia = () => ({ matches: reducedMotion });
  return new Element("body");
}
