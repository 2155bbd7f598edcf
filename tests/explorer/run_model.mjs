// Calls functions of the explorer's modules, as a JSON job on stdin asks, and answers on stdout.
//
//   {"folder": URL of the modules, "config": ..., "packed": weights in the form that pages get, or
//    "exact": float32 weights in base64, "calls": [[function, ...arguments]]}
//
// The argument "model" stands for the model, and {"f32": [...]} for a Float32Array.
import { readFileSync } from "node:fs";

const MODULES = ["centring", "drag", "model", "probability", "random", "unpack", "warps"];

const { folder, config, packed, exact, calls } = JSON.parse(readFileSync(0, "utf8"));
const m = {};
for (const name of MODULES) Object.assign(m, await import(`${folder}/${name}.mjs`));

let model = null;
if (packed) model = m.buildModel(config, m.fromSteps(await m.inflate(packed), config.layers));
if (exact) {
  const bytes = Uint8Array.from(Buffer.from(exact, "base64")); // a Buffer may be unaligned
  model = m.buildModel(config, new Float32Array(bytes.buffer));
}

const local = {
  // The log-weights of n draws, with noise from a seed.
  draws: (model, x, n, seed) => {
    const q = m.encode(model, x);
    const uniform = m.uniforms(seed);
    return Float64Array.from(
      { length: n },
      () => m.particle(model, x, q, m.normals(uniform, q.mean.length)).logW,
    );
  },
  given: (model, x, u) => m.encode(model, x).given(u),
  inverse: (warp, size, n, theta, options) => {
    const points = m.pixelCentres(size);
    const { fieldsAt, coefficients = (theta) => theta } = m.WARPS[warp](size, n);
    const grid = m.displace(points, fieldsAt(points), coefficients(theta));
    return m.inverseGrid(grid, { size, ...options });
  },
  encodedParticle: (model, x, noise) => m.particle(model, x, m.encode(model, x), noise),
  boundOf: (logW, k) => m.bound(Float64Array.from(logW), k),
  someNormals: (seed, n) => m.normals(m.uniforms(seed), n),
  fields: (warp, size, n, points) => m.WARPS[warp](size, n).fieldsAt(points),
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
