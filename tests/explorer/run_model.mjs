// Runs functions of model.mjs on what arrives as JSON on stdin, and answers on stdout.
//
//   {"module": URL, "config": ..., "packed": weights as pages get them, or "exact": float32 in
//    base64, "calls": [[function, ...arguments]]}
//
// "model" as an argument stands for the model; {"f32": [...]} for a Float32Array.
import { readFileSync } from "node:fs";

const { module, config, packed, exact, calls } = JSON.parse(readFileSync(0, "utf8"));
const m = await import(module);

let model = null;
if (packed) model = m.buildModel(config, m.fromHalves(await m.inflate(packed)));
if (exact) {
  const bytes = Uint8Array.from(Buffer.from(exact, "base64")); // aligned, unlike the Buffer
  model = m.buildModel(config, new Float32Array(bytes.buffer));
}

const local = {
  // The log-weights of n draws with noise from a seed.
  draws: (model, x, n, seed) => {
    const q = m.encode(model, x);
    const uniform = m.uniforms(seed);
    return Float64Array.from(
      { length: n },
      () => m.particle(model, x, q, m.normals(uniform, q.mean.length)).logW,
    );
  },
  encodedParticle: (model, x, noise) => m.particle(model, x, m.encode(model, x), noise),
  boundOf: (logW, k) => m.bound(Float64Array.from(logW), k),
  someNormals: (seed, n) => m.normals(m.uniforms(seed), n),
  fields: (warp, n, points) => m.WARPS[warp](n).fieldsAt(points),
};

const read = (value) =>
  value === "model" ? model : value?.f32 ? Float32Array.from(value.f32) : value;
const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
const answers = [];
for (const [name, ...given] of calls) {
  const f = local[name] ?? m[name];
  answers.push(await f(...given.map(read)));
}
process.stdout.write(JSON.stringify(answers, plain));
