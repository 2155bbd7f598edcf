// What the views of one model share, and how they learn that it has changed.
import { decode, encode, split } from "./model.mjs";
import { binarize, normals, uniforms } from "./random.mjs";

/**
 * A model, an image x with its posterior q, and latents.
 *
 * Views change the scene and register what to redraw when it changes. Changes are collected and
 * drawn once per frame.
 */
export class Scene {
  listeners = [];
  changed = new Set();
  frame = null;
  seed = 1;

  constructor(model, digits, start = {}) {
    this.model = model;
    this.digits = digits;
    // The latents of z and of u, the most informative first.
    const byKl = [...model.mean_kl.keys()].sort((a, b) => model.mean_kl[b] - model.mean_kl[a]);
    this.zByKl = byKl.filter((i) => i < model.dim_z);
    this.uByKl = byKl.filter((i) => i >= model.dim_z);
    this.strokes = start.strokes ?? []; // of the drawing, which stays when the model changes
    this.choose(start.chosen ?? start.index ?? 0);
    if (start.gray) this.take(start.gray, start.index);
  }

  // -------------------------------------------------------------- changes

  /**
   * Call `draw` in the next frame, and again in each frame after a change of one of these topics:
   * "latents", "x" (the image and its posterior), or a topic that belongs to one view.
   */
  on(topics, draw) {
    this.listeners.push({ topics, draw, drawn: false });
    this.requestFrame();
  }

  /** Have all listeners to these topics draw in the next frame. */
  change(...topics) {
    for (const topic of topics) this.changed.add(topic);
    this.requestFrame();
  }

  requestFrame() {
    this.frame ??= requestAnimationFrame(() => {
      const { changed } = this;
      [this.frame, this.changed] = [null, new Set()];
      for (const listener of this.listeners) {
        if (listener.drawn && !listener.topics.some((topic) => changed.has(topic))) continue;
        listener.drawn = true;
        listener.draw();
      }
    });
  }

  // -------------------------------------------------------------- the image

  /**
   * An image as the model saw images in training: binary if it was trained on binary pixels. A
   * digit's binary pixels are those that Python draws; a drawing's are drawn here.
   */
  asTrained(gray, index) {
    if (!this.model.binarized) return gray;
    return index === null ? binarize(gray, uniforms(0)) : this.digits.binary[index];
  }

  /** Show one of the bundled digits. */
  choose(index) {
    this.chosen = index;
    this.take(this.digits.images[index], index);
  }

  /** Show this image, and the latents that the encoder finds for it. */
  take(gray, index = null) {
    this.index = index;
    this.gray = gray;
    this.x = this.asTrained(gray, index);
    this.q = encode(this.model, this.x);
    this.change("x");
    this.set(this.q.mean);
  }

  // -------------------------------------------------------------- the latents

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

  setLatent(i, value) {
    const latents = Float32Array.from(this.latents);
    latents[i] = value;
    this.set(latents);
  }

  /** The decoder's output for the latents, computed once for all views. */
  get output() {
    return (this.decoded ??= decode(this.model, this.latents));
  }

  /** Random numbers for draws from q: others for each digit, the same whenever it is chosen. */
  uniforms(drawn = 0) {
    return uniforms(1 + drawn + 7919 * (this.index ?? 99));
  }

  /** n draws from the prior. */
  random(n) {
    return normals(uniforms(this.seed++ + 1000 * (Date.now() % 1000)), n);
  }
}
