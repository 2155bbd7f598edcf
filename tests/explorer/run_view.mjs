// Builds views of the explorer on a stand-in for a page, acts as a reader would, and answers what
// is to be seen, as a JSON job on stdin asks.
//
//   {"folder": URL of the modules, "config": ..., "exact": float32 weights in base64, "digits":
//    pixels in base64, "view": name, "start": of the Scene, "reducedMotion": ..., "act": "...",
//    "given": ...}
//
// `act` is the body of an async function, whose result is the answer. It sees `given`, the scene,
// the page, and the functions below.
import { readFileSync } from "node:fs";
import { makePage, settle } from "./dom.mjs";

const job = JSON.parse(readFileSync(0, "utf8"));
const page = makePage(job);
const get = (name) => import(`${job.folder}/${name}.mjs`);
const [{ buildModel }, { Scene }, { digitsOf }, { viewsOf }] = await Promise.all(
  ["model", "scene", "unpack", "views"].map(get),
);
const bytes = (base64) => Uint8Array.from(Buffer.from(base64, "base64"));
const model = buildModel(job.config, new Float32Array(bytes(job.exact).buffer));
const digits = digitsOf(bytes(job.digits), model.size, job.labels);
const scene = new Scene(model, digits, job.start);
page.append(...viewsOf(scene, job.view));

/** Wait until `test` holds. */
const until = async (test) => {
  for (let i = 0; !test(); i++) {
    if (i > 10_000) throw new Error(`never: ${test}`);
    await new Promise((done) => setTimeout(done, 5));
  }
};
const seen = {
  settle,
  until,
  /** The values of the view's table. */
  cells: () => page.all((e) => e.tag === "td").map((e) => e.textContent),
  /** What the pictures with this label show. */
  pictures: (name) =>
    page.all((e) => e.tag === "canvas" && e.attributes["aria-label"] === name).map((e) => e.gray),
  /** Attributes of all elements of a kind and, if given, of one class. */
  marks: (tag, kind, ...names) =>
    page
      .all((e) => e.tag === tag && (!kind || e.classes.includes(kind)))
      .map((e) => names.map((name) => e.attributes[name] ?? e[name])),
};
await settle();
const AsyncFunction = (async () => {}).constructor;
const all = { scene, page, given: job.given, ...seen };
const act = new AsyncFunction(`{ ${Object.keys(all).join(", ")} }`, job.act);
const answer = await act(all);
const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
process.stdout.write(JSON.stringify(answer ?? null, plain), () => process.exit());
