// The entry point on a page of the book: the <tvae-explorer> element.
//
// export.py puts globalThis.tvaeExplorer in front of this script. It holds `files`, the script of
// each model and of the digits; `names`, what menus call decoders and objectives; and `loaded`,
// which those scripts fill.
import { button, h } from "./elements.mjs";
import { buildModel } from "./model.mjs";
import { Scene } from "./scene.mjs";
import { digitsOf, fromSteps, inflate } from "./unpack.mjs";
import { shell, VIEWS, viewsOf } from "./views.mjs";

// ---------------------------------------------------------------- loading

const here = document.currentScript.src;
const kept = {};

/** What `start` promises, kept by name. A failure is forgotten, so that it can be tried again. */
const keep = (name, start) =>
  (kept[name] ??= start().catch((error) => {
    delete kept[name];
    throw error;
  }));

/** What a script contributes to `loaded`. Not a fetch, which pages opened from disk may not use. */
const load = (name) =>
  new Promise((resolve, reject) => {
    const { files, loaded } = globalThis.tvaeExplorer;
    const script = h("script", {
      src: new URL(files[name], here),
      onload: () => resolve(loaded[name]),
      onerror: () => reject(new Error(`could not load ${files[name]}`)),
    });
    document.head.append(script);
  });

const loadModel = (name) =>
  keep(name, async () => {
    const { packed, ...config } = await load(name);
    return buildModel(config, fromSteps(await inflate(packed), config.layers));
  });

async function loadScene(name, start) {
  const [model, { labels, size, packed }] = await Promise.all([
    loadModel(name),
    keep("digits", () => load("digits")),
  ]);
  return new Scene(model, digitsOf(await inflate(packed), model.size, labels, size), start());
}

// ---------------------------------------------------------------- choosing a model

/**
 * Menus for the decoder and the objective of the model. Each offers what the page has files of.
 *
 * Another decoder keeps the objective if there is such a model, and else gets the last that it has.
 */
function menus(name, act) {
  const { files, names } = globalThis.tvaeExplorer;
  const objectivesOf = (decoder) =>
    Object.keys(names.objectives).filter((each) => files[`${decoder}-${each}`]);
  const decoders = Object.keys(names.decoders).filter((each) => objectivesOf(each).length);
  const isIts = (decoder) => objectivesOf(decoder).some((each) => name === `${decoder}-${each}`);
  const decoder = decoders.find(isIts);
  const objectives = objectivesOf(decoder);
  const objective = name.slice(decoder.length + 1);
  const withDecoder = (each) => {
    const its = objectivesOf(each);
    return `${each}-${its.includes(objective) ? objective : its.at(-1)}`;
  };
  const menu = (label, options, words, chosen, nameWith) =>
    h(
      "select",
      { "aria-label": label, onchange: (event) => act(nameWith(event.target.value)) },
      ...options.map((each) =>
        h("option", { value: each, selected: each === chosen }, words[each]),
      ),
    );
  const withObjective = (each) => `${decoder}-${each}`;
  return h(
    "div",
    { class: "tools models" },
    h("label", {}, "decoder ", menu("decoder", decoders, names.decoders, decoder, withDecoder)),
    h(
      "label",
      {},
      "trained as ",
      menu("objective", objectives, names.objectives, objective, withObjective),
    ),
  );
}

/** The elements of a page with the same `group` attribute, and the scene that they share. */
class Group {
  members = [];
  wanted = null; // the name of the model that is shown or being loaded
  shown = null; // the name of the model that is shown
  message = null; // a function that makes an element

  join(member, name, start) {
    this.members.push(member);
    if (this.wanted) this.draw(member);
    else this.show(name, start);
  }

  /** Show this model in all elements. The image stays if there is one, else `start` chooses it. */
  async show(name, start) {
    this.wanted = name;
    this.tell(() => h("p", { role: "status", class: "loading" }, `loading ${name} …`));
    try {
      const scene = await loadScene(name, () => this.scene ?? start);
      if (this.wanted !== name) return; // the reader has chosen another model in the meantime
      [this.scene, this.shown] = [scene, name];
      this.tell(null);
    } catch (error) {
      if (this.wanted !== name) return;
      this.wanted = this.shown;
      const again = () => this.show(name, start);
      const text = `The explorer ${error.message}. `;
      this.tell(() => h("p", { role: "alert" }, text, button("try again", again)));
    }
  }

  tell(message) {
    this.message = message;
    for (const member of this.members) this.draw(member);
  }

  draw(member) {
    const parts = this.message ? [this.message()] : [];
    if (this.scene && member.hasAttribute("choose")) {
      parts.unshift(menus(this.wanted, (name) => this.show(name)));
    }
    const focused = member.shadowRoot.activeElement?.getAttribute("aria-label");
    member.head.replaceChildren(...parts);
    member.head.querySelector(`select[aria-label="${focused}"]`)?.focus();
    if (!this.scene || member.scene === this.scene) return;
    member.scene = this.scene;
    member.views.replaceChildren(...viewsOf(this.scene, member.getAttribute("view")));
    member.setAttribute("ready", "");
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
  head = h("div", { class: "head" });
  // The still picture stays until the views are ready to replace it.
  views = h("div", { class: "views" }, h("slot", {}));

  connectedCallback() {
    if (this.shadowRoot) return;
    shell(this).append(this.head, this.views);
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

  start() {
    const [view, name] = [this.getAttribute("view"), this.getAttribute("model")];
    const models = Object.keys(globalThis.tvaeExplorer.files).filter((each) => each !== "digits");
    for (const [kind, given, known] of [
      ["view", view, [...Object.keys(VIEWS), "all"]],
      ["model", name, models],
    ]) {
      if (known.includes(given)) continue;
      const message = `unknown ${kind} "${given}"; known: ${known.join(", ")}`;
      return this.head.replaceChildren(h("p", { role: "alert" }, message));
    }
    const key = this.getAttribute("group") ?? Symbol("a group of one");
    this.group = groups[key] ??= new Group();
    this.group.join(this, name, { index: Number(this.getAttribute("digit") ?? 5) });
  }
}

if (!customElements.get("tvae-explorer")) customElements.define("tvae-explorer", TvaeExplorer);
