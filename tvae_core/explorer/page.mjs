// The entry point on a page of the book: the <tvae-explorer> element.
//
// export.py puts globalThis.tvaeExplorer in front of this script. It holds `files`, the script of
// each model and of the digits; `names`, what menus call decoders and objectives; and `loaded`,
// which those scripts fill.
import { h } from "./elements.mjs";
import { buildModel } from "./model.mjs";
import { Scene } from "./scene.mjs";
import { fromHalves, imagesOf, inflate } from "./unpack.mjs";
import { shell, VIEWS, viewsOf } from "./views.mjs";

// ---------------------------------------------------------------- loading

const here = document.currentScript.src;
const loading = {};

/** What a script contributes to `loaded`. Not a fetch, which pages opened from disk may not use. */
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

async function loadModel(name) {
  const { packed, ...config } = await load(name);
  return buildModel(config, fromHalves(await inflate(packed)));
}

async function loadDigits(size) {
  const { labels, packed } = await load("digits");
  return { labels, images: imagesOf(await inflate(packed), size) };
}

// ---------------------------------------------------------------- choosing a model

/** Menus for the decoder and the objective of the model. Each offers what the page has files of. */
function menus(name, act) {
  const { files, names } = globalThis.tvaeExplorer;
  const [, decoder, objective] = name.match(/^([^-]+)-(.+)$/);
  const menu = (label, options, chosen, nameWith) =>
    h(
      "select",
      { "aria-label": label, onchange: (event) => act(nameWith(event.target.value)) },
      ...Object.entries(options)
        .filter(([each]) => files[nameWith(each)])
        .map(([each, text]) => h("option", { value: each, selected: each === chosen }, text)),
    );
  const decoders = menu("decoder", names.decoders, decoder, (each) => `${each}-${objective}`);
  const objectives = menu("objective", names.objectives, objective, (each) => `${decoder}-${each}`);
  return h(
    "div",
    { class: "tools models" },
    h("label", {}, "decoder ", decoders),
    h("label", {}, "trained as ", objectives),
  );
}

/** The scene that all elements of a page with the same `group` attribute share. */
class Group {
  members = [];

  /** Show this model in all elements. The image stays if there is one, else `start` chooses it. */
  async show(name, start) {
    this.name = name;
    models[name] ??= loadModel(name);
    const [model] = await Promise.all([models[name], load("digits")]);
    const digits = await loadDigits(model.size);
    if (this.name !== name) return; // the reader has chosen another model in the meantime
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

// ---------------------------------------------------------------- the element

/**
 * <tvae-explorer view="pose" model="affine-iwae5" digit="5" choose group="one">, with a still
 * picture inside. `choose` adds menus for other models; elements with the same `group` share a
 * model, an image and latents.
 */
class TvaeExplorer extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    // The still picture stays until the views are ready to replace it.
    this.attachShadow({ mode: "open" }).append(h("slot", {}));
    // Models are large, so an element loads its model only when it comes near the window.
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

  /** The current z and u, available once the element has the attribute `ready`. */
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
      const key = this.getAttribute("group") ?? Symbol("a group of one");
      this.group = groups[key] ??= new Group();
      this.group.showing ??= this.group.show(name, {
        index: Number(this.getAttribute("digit") ?? 5),
      });
      await this.group.showing;
      const member = { body: shell(this), view, choose: this.hasAttribute("choose") };
      this.group.members.push(member);
      this.group.fill(member);
      this.setAttribute("ready", "");
    } catch (error) {
      const message = h("p", { role: "alert" }, `The explorer did not start: ${error.message}.`);
      this.shadowRoot.replaceChildren(message, h("slot", {}));
    }
  }
}

if (!customElements.get("tvae-explorer")) customElements.define("tvae-explorer", TvaeExplorer);
