// The trained model in plain JavaScript: pure functions of numbers, without a page.
//
// Names, shapes and coordinates are those of tvae_core: an image is a Float32Array of H * W gray
// values, row by row; a grid holds (x, y) for each pixel of the output, -1 and 1 being the outer
// edges of the image; log-terms are in nats. Sums are taken in float64 and kept in float32, so
// results differ from PyTorch's by the rounding of float32.

// ---------------------------------------------------------------- weights

/**
 * The model of a configuration and its weights.
 *
 * @param config size [H, W], dim_z, dim_u, warp (a key of WARPS, or null), points (of a spline's
 *   control points per side), resample, padding, floor, log_sigma_range, activity (the KL that each
 *   latent takes on average), and layers: [name, d_out, d_in] of each linear layer, in the order in
 *   which weights and then biases follow each other
 * @param weights Float32Array
 */
export function buildModel(config, weights) {
  const layers = {};
  let at = 0;
  for (const [name, dOut, dIn] of config.layers) {
    const weight = weights.subarray(at, (at += dOut * dIn));
    layers[name] = { weight, bias: weights.subarray(at, (at += dOut)), dOut, dIn };
  }
  if (at !== weights.length) {
    throw new Error(`the layers hold ${at} numbers, the weights ${weights.length}`);
  }
  const body = (prefix) => Object.keys(layers).filter((name) => name.startsWith(prefix));
  const identity = pixelCentres(config.size);
  const warp = config.warp ? WARPS[config.warp](config.points) : null;
  return {
    ...config,
    layers,
    encoderBody: body("encoder.body."),
    decoderBody: body("decoder.body."),
    identity,
    fieldsAt: warp?.fieldsAt,
    coefficients: warp?.coefficients ?? ((theta) => theta),
    basis: warp?.fieldsAt(identity),
  };
}

/** Numbers of float16 from two planes of bytes: all low bytes, then all high ones. */
export function fromHalves(bytes) {
  const n = bytes.length / 2;
  const numbers = new Float32Array(n);
  // Sign, exponent and two bits of the fraction are the high byte: 256 steps and offsets. Exponent
  // 0 stands for numbers without the leading bit; 31, for what is no number, is not met in weights.
  const step = new Float64Array(256);
  const offset = new Float64Array(256);
  for (let high = 0; high < 256; high++) {
    const exponent = (high >> 2) & 31;
    step[high] = (high & 128 ? -1 : 1) * 2 ** (Math.max(exponent, 1) - 25);
    offset[high] = step[high] * ((exponent ? 1024 : 0) + ((high & 3) << 8));
  }
  for (let i = 0; i < n; i++) {
    const high = bytes[n + i];
    numbers[i] = offset[high] + step[high] * bytes[i];
  }
  return numbers;
}

/** The bytes of a base64 string that holds a zlib stream. */
export async function inflate(base64) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < packed.length; i++) packed[i] = text.charCodeAt(i); // from() is far slower
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ---------------------------------------------------------------- networks

/** W x + b. */
export function linear({ weight, bias, dOut, dIn }, x) {
  const y = new Float32Array(dOut);
  for (let row = 0, at = 0; row < dOut; row++) {
    // Four sums side by side: one alone would wait for each of its additions.
    let a = bias[row],
      b = 0,
      c = 0,
      d = 0,
      i = 0;
    for (; i + 3 < dIn; i += 4, at += 4) {
      a += weight[at] * x[i];
      b += weight[at + 1] * x[i + 1];
      c += weight[at + 2] * x[i + 2];
      d += weight[at + 3] * x[i + 3];
    }
    for (; i < dIn; i++, at++) a += weight[at] * x[i];
    y[row] = a + b + c + d;
  }
  return y;
}

function mlp(model, names, x) {
  for (const name of names) {
    x = linear(model.layers[name], x);
    for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = 0;
  }
  return x;
}

const sigmoid = (logits) => logits.map((l) => 1 / (1 + Math.exp(-l)));

const join = (a, b) => {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
};

/** q(z, u | x): mean and sigma of each latent, z first. The mean of u passes a tanh. */
export function encode(model, x) {
  const h = mlp(model, model.encoderBody, x);
  const muZ = linear(model.layers["encoder.mu_z"], h);
  const muU = model.dim_u ? linear(model.layers["encoder.mu_u"], h).map(Math.tanh) : [];
  const [low, high] = model.log_sigma_range;
  const sigma = linear(model.layers["encoder.log_sigma"], h).map((s) =>
    Math.exp(Math.min(Math.max(s, low), high)),
  );
  return { mean: join(muZ, muU), sigma };
}

/** (z, u) of a latent vector. */
export const split = (model, latents) => [
  latents.subarray(0, model.dim_z),
  latents.subarray(model.dim_z),
];

/** The logits of c(z), the image before the warp. */
const canonicalLogits = (model, z) =>
  linear(model.layers["decoder.logits"], mlp(model, model.decoderBody, z));

/** c(z): pixel probabilities before the warp; those of p(x | z) where there is no warp. */
export const canonical = (model, z) => sigmoid(canonicalLogits(model, z));

/**
 * p(x | z, u): the canonical image, the grid through which it is seen (null without a warp), and
 * logits and probabilities of the output's pixels.
 */
export function decode(model, latents) {
  const [z, u] = split(model, latents);
  const own = canonicalLogits(model, z);
  const image = sigmoid(own);
  if (!model.warp) return { canonical: image, theta: null, grid: null, logits: own, image };
  const theta = thetaOf(model, u);
  const grid = gridOf(model, theta);
  const { size, floor } = model;
  let logits;
  if (model.resample === "probs") {
    const seen = sample(image, size, grid, model.padding);
    logits = seen.map((p) => {
      const squeezed = Math.fround(floor + (1 - 2 * floor) * p);
      return Math.log(squeezed / (1 - squeezed));
    });
  } else {
    // Logits are counted from paper's, so that what lies outside is paper and not p = 1/2.
    const paper = Math.log(floor / (1 - floor));
    const seen = sample(
      own.map((l) => l - paper),
      size,
      grid,
      model.padding,
    );
    logits = seen.map((l) => l + paper);
  }
  return { canonical: image, theta, grid, logits, image: sigmoid(logits) };
}

// ---------------------------------------------------------------- pose

/** theta = W u + b, the parameters of the warp. */
export const thetaOf = (model, u) => linear(model.layers["decoder.pose"], u);

/**
 * The u nearest to a present one whose theta comes nearest to the wished one, by least squares.
 *
 * With ridge = t^2 and u = 0 it is the most likely u under the prior N(0, 1), if theta is to be met
 * within about t. Else only a trace of a ridge keeps a singular W from dividing by zero.
 */
export function uOf(model, theta, u, ridge = 0) {
  const { weight, dOut, dIn } = model.layers["decoder.pose"];
  const W = (i, k) => weight[i * dIn + k];
  const way = thetaOf(model, u).map((now, i) => theta[i] - now);
  const back = (v) => Array.from({ length: dIn }, (_, k) => sum(dOut, (i) => W(i, k) * v[i]));
  // W' (W W')^-1 and (W' W)^-1 W' are the same; we invert the smaller matrix.
  let du;
  if (dOut <= dIn) {
    const gram = ridged(dOut, (i, j) => sum(dIn, (k) => W(i, k) * W(j, k)), ridge);
    du = back(solve(gram, [way])[0]);
  } else {
    const gram = ridged(dIn, (k, l) => sum(dOut, (i) => W(i, k) * W(i, l)), ridge);
    [du] = solve(gram, [back(way)]);
  }
  return Float32Array.from(u, (value, k) => value + du[k]);
}

function sum(n, term) {
  let total = 0;
  for (let i = 0; i < n; i++) total += term(i);
  return total;
}

function ridged(n, entry, ridge) {
  const indices = [...Array(n).keys()];
  const matrix = indices.map((i) => Float64Array.from(indices, (j) => entry(i, j)));
  const trace = sum(n, (i) => matrix[i][i]);
  matrix.forEach((row, i) => (row[i] += ridge + 1e-13 * trace + 1e-30));
  return matrix;
}

/** The grid of theta: where each pixel of the output looks. */
export function gridOf(model, theta) {
  return moved(model.identity, model.basis, model.coefficients(theta));
}

/** points + sum_p theta_p * fields_p. */
export function moved(points, fields, theta) {
  const there = Float32Array.from(points);
  fields.forEach((field, p) => {
    const t = theta[p];
    for (let i = 0; i < there.length; i++) there[i] += t * field[i];
  });
  return there;
}

// ---------------------------------------------------------------- warps

/** (x, y) of every pixel's centre: the identity grid. */
export function pixelCentres([height, width]) {
  const points = new Float64Array(2 * height * width);
  for (let i = 0, at = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      points[at++] = (2 * j + 1) / width - 1;
      points[at++] = (2 * i + 1) / height - 1;
    }
  }
  return points;
}

/** n x n control points on [-1, 1]^2, row by row from the top left. */
export function controlPoints(n) {
  const points = [];
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) points.push((2 * j) / (n - 1) - 1, (2 * i) / (n - 1) - 1);
  }
  return Float64Array.from(points);
}

/** One displacement field for each of `functions` (x, y) -> (dx, dy), at these points. */
function fields(functions, points) {
  return functions.map((f) => {
    const field = new Float64Array(points.length);
    for (let i = 0; i < points.length; i += 2) field.set(f(points[i], points[i + 1]), i);
    return field;
  });
}

/** Each scalar function along x, then each along y. */
const forEachAxis = (scalars) => [
  ...scalars.map((f) => (x, y) => [f(x, y), 0]),
  ...scalars.map((f) => (x, y) => [0, f(x, y)]),
];

const TRANSLATION = forEachAxis([() => 1]);
const SIMILARITY = [(x, y) => [x, y], (x, y) => [-y, x], ...TRANSLATION];
const AFFINE = forEachAxis([(x) => x, (x, y) => y, () => 1]);

/**
 * A warp by name: fieldsAt(points) gives its displacement fields at any points (Bookstein 1989 for
 * the spline), coefficients(theta) those of the fields where they are not theta itself.
 */
export const WARPS = {
  translation: () => ({ fieldsAt: (points) => fields(TRANSLATION, points) }),
  rotation: () => ({
    fieldsAt: (points) => fields(SIMILARITY.slice(0, 2), points),
    coefficients: ([angle]) => [Math.cos(angle) - 1, Math.sin(angle)],
  }),
  similarity: () => ({ fieldsAt: (points) => fields(SIMILARITY, points) }),
  affine: () => ({ fieldsAt: (points) => fields(AFFINE, points) }),
  tps: (n) => ({ fieldsAt: (points) => splineFields(points, n) }),
};

/** U(r) = r^2 log r^2 from a point to every centre, then 1, x, y. */
function splineTerms(x, y, centres) {
  const terms = [];
  for (let i = 0; i < centres.length; i += 2) {
    const squared = (x - centres[i]) ** 2 + (y - centres[i + 1]) ** 2;
    terms.push(squared ? squared * Math.log(squared) : 0);
  }
  return [...terms, 1, x, y];
}

function splineFields(points, n) {
  const centres = controlPoints(n);
  const m = n * n;
  const system = [];
  for (let i = 0; i < m; i++) system.push(splineTerms(centres[2 * i], centres[2 * i + 1], centres));
  for (let p = 0; p < 3; p++) {
    system.push([...system.slice(0, m).map((row) => row[m + p]), 0, 0, 0]);
  }
  // The spline that moves one control point by 1 and holds the others, for each of them.
  const unit = (i) => system.map((_, row) => (row === i ? 1 : 0));
  const splines = solve(
    system,
    Array.from({ length: m }, (_, i) => unit(i)),
  );
  const influence = (spline) => (x, y) =>
    splineTerms(x, y, centres).reduce((sum, term, i) => sum + term * spline[i], 0);
  return fields(forEachAxis(splines.map(influence)), points);
}

/** The solutions of A v = b for each b, by Gaussian elimination with pivots. */
export function solve(A, bs) {
  const n = A.length;
  const rows = A.map((row, i) => Float64Array.from([...row, ...bs.map((b) => b[i])]));
  for (let c = 0; c < n; c++) {
    let pivot = c;
    for (let r = c + 1; r < n; r++) if (Math.abs(rows[r][c]) > Math.abs(rows[pivot][c])) pivot = r;
    [rows[c], rows[pivot]] = [rows[pivot], rows[c]];
    for (let r = 0; r < n; r++) {
      const factor = r === c ? 0 : rows[r][c] / rows[c][c];
      if (factor) for (let k = c; k < n + bs.length; k++) rows[r][k] -= factor * rows[c][k];
    }
  }
  return bs.map((_, k) => Float64Array.from(rows, (row, i) => row[n + k] / row[i]));
}

/** Bilinear sampling of an image at a grid (Jaderberg et al. 2015, eq. 5). */
export function sample(image, [height, width], grid, padding) {
  const seen = new Float32Array(grid.length / 2);
  const within = {
    zeros: (at) => at,
    border: (at, n) => Math.min(Math.max(at, 0), n - 1),
    reflection: (at, n) => {
      const turn = Math.abs(at + 0.5) % (2 * n); // n pixels forth and n back
      return Math.min(Math.max((turn > n ? 2 * n - turn : turn) - 0.5, 0), n - 1);
    },
  }[padding];
  const pixel = (i, j) => (i >= 0 && j >= 0 && i < height && j < width ? image[i * width + j] : 0);
  for (let at = 0; at < seen.length; at++) {
    const x = within(((grid[2 * at] + 1) * width - 1) / 2, width);
    const y = within(((grid[2 * at + 1] + 1) * height - 1) / 2, height);
    const j = Math.floor(x),
      i = Math.floor(y);
    const right = x - j,
      down = y - i;
    seen[at] =
      (1 - down) * ((1 - right) * pixel(i, j) + right * pixel(i, j + 1)) +
      down * ((1 - right) * pixel(i + 1, j) + right * pixel(i + 1, j + 1));
  }
  return seen;
}

/**
 * theta after one of 3 x 3 handles of the grid is dragged to (x, y).
 *
 * A spline's handles are its control points. The affine grid's are its centre, which moves the
 * grid; the middles of its edges, which stretch and shear it about the centre; and its corners,
 * which turn and scale it. The dragged handle lies at (x, y) afterwards.
 */
export function dragged(warpName, theta, handle, [x, y]) {
  const points = controlPoints(3);
  const [cx, cy] = [points[2 * handle], points[2 * handle + 1]];
  const to = Float64Array.from(theta);
  if (warpName === "tps") {
    to[handle] = x - cx;
    to[9 + handle] = y - cy;
    return to;
  }
  // The grid is A (x, y)' + t, and theta = (A - 1 | t), row by row.
  const A = [
    [1 + to[0], to[1]],
    [to[3], 1 + to[4]],
  ];
  const [dx, dy] = [x - to[2], y - to[5]];
  if (!cx && !cy) {
    to[2] = x;
    to[5] = y;
  } else if (!cx || !cy) {
    const column = cx ? 0 : 1;
    A[0][column] = dx / (cx + cy);
    A[1][column] = dy / (cx + cy);
  } else {
    const [vx, vy] = [A[0][0] * cx + A[0][1] * cy, A[1][0] * cx + A[1][1] * cy];
    const squared = vx * vx + vy * vy || 1e-12;
    const [scale, turn] = [(dx * vx + dy * vy) / squared, (dy * vx - dx * vy) / squared];
    for (const column of [0, 1]) {
      const [top, bottom] = [A[0][column], A[1][column]];
      A[0][column] = scale * top - turn * bottom;
      A[1][column] = turn * top + scale * bottom;
    }
  }
  [to[0], to[1], to[3], to[4]] = [A[0][0] - 1, A[0][1], A[1][0], A[1][1] - 1];
  return to;
}

// ---------------------------------------------------------------- nats

const LOG_2PI = Math.log(2 * Math.PI);

/** log p(x | z, u) of independent Bernoulli pixels; for gray x minus the cross-entropy. */
export function logLik(logits, x) {
  let nats = 0;
  for (let i = 0; i < x.length; i++) {
    const l = logits[i];
    nats -= Math.max(l, 0) - l * x[i] + Math.log1p(Math.exp(-Math.abs(l)));
  }
  return nats;
}

/** KL(q || N(0, 1)) of each latent. */
export const kl = ({ mean, sigma }) =>
  mean.map((m, i) => (m * m + sigma[i] * sigma[i] - 1) / 2 - Math.log(sigma[i]));

/**
 * One importance sample: latents = mean + sigma * noise, and its log-terms.
 * logW = log p(x | latents) + log p(latents) - log q(latents | x).
 */
export function particle(model, x, { mean, sigma }, noise) {
  const latents = mean.map((m, i) => m + sigma[i] * noise[i]);
  let logPrior = 0,
    logQ = 0;
  for (let i = 0; i < latents.length; i++) {
    logPrior -= (latents[i] * latents[i] + LOG_2PI) / 2;
    logQ -= (noise[i] * noise[i] + LOG_2PI) / 2 + Math.log(sigma[i]);
  }
  const lik = logLik(decode(model, latents).logits, x);
  return { latents, logLik: lik, logPrior, logQ, logW: lik + logPrior - logQ };
}

/** log sum exp. */
export function logSumExp(values) {
  let most = -Infinity,
    sum = 0;
  for (const v of values) if (v > most) most = v;
  for (const v of values) sum += Math.exp(v - most);
  return most + Math.log(sum);
}

/**
 * log p(x) from K log-weights: log 1/K sum_k w_k (Burda et al. 2016, section 5), its
 * standard error by the delta method, and the effective sample size (sum w)^2 / sum w^2.
 */
export function estimate(logW) {
  const k = logW.length;
  const log1 = logSumExp(logW);
  const logEss = 2 * log1 - logSumExp(logW.map((w) => 2 * w));
  return {
    logP: log1 - Math.log(k),
    se: Math.sqrt(Math.max(0, Math.exp(-logEss) - 1 / k)),
    ess: Math.exp(logEss),
  };
}

/**
 * The bound with k draws, from K >= k log-weights: the mean of log 1/k sum w over K / k groups,
 * and its standard error over the groups (null where there are fewer than two).
 */
export function bound(logW, k) {
  const groups = Math.floor(logW.length / k);
  const values = [];
  for (let g = 0; g < groups; g++) {
    values.push(logSumExp(logW.subarray(g * k, (g + 1) * k)) - Math.log(k));
  }
  const mean = values.reduce((a, b) => a + b, 0) / groups;
  const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return { k, mean, se: groups > 1 ? Math.sqrt(squares / (groups - 1) / groups) : null };
}

// ---------------------------------------------------------------- chance

/** Uniform numbers in (0, 1) from a seed (Marsaglia's xorshift, 32 bits). */
export function uniforms(seed) {
  let state = (seed * 2654435761 + 88675123) >>> 0 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 16; i++) next(); // small seeds differ in few bits
  return next;
}

/** n draws of N(0, 1), two from two uniform numbers (Box and Muller 1958). */
export function normals(uniform, n) {
  const draws = new Float32Array(n);
  for (let i = 0; i < n; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform())),
      angle = 2 * Math.PI * uniform();
    draws[i] = radius * Math.cos(angle);
    if (i + 1 < n) draws[i + 1] = radius * Math.sin(angle);
  }
  return draws;
}

/** Each pixel 1 with the probability of its gray value. */
export const binarize = (x, uniform) => x.map((p) => (uniform() < p ? 1 : 0));

// ---------------------------------------------------------------- a drawing

const inked = (ink, at) => ink[at] > 1e-3;

/**
 * A drawing brought into the form of MNIST's digits: scaled, its aspect kept, until the longer
 * side takes 20 of 28 pixels, smoothed by averaging over each pixel's area, and moved until its
 * centre of mass lies at the middle of the frame (LeCun et al. 1998). In MNIST that is the middle
 * of pixel 14, counted from 0, half a pixel from the frame's own. Null for an empty sheet.
 *
 * @param ink gray values of the sheet, 0 the paper and 1 the pen
 */
export function centred(ink, [height, width], [H, W]) {
  let mass = 0,
    mx = 0,
    my = 0;
  let [left, right, top, bottom] = [width, -1, height, -1];
  // sums[i][j] is the ink above row i and left of column j.
  const sums = Array.from({ length: height + 1 }, () => new Float64Array(width + 1));
  for (let i = 0; i < height; i++) {
    for (let j = 0, row = 0; j < width; j++) {
      const v = ink[i * width + j];
      sums[i + 1][j + 1] = sums[i][j + 1] + (row += v);
      if (!inked(ink, i * width + j)) continue;
      mass += v;
      mx += v * (j + 0.5);
      my += v * (i + 0.5);
      [left, right] = [Math.min(left, j), Math.max(right, j)];
      [top, bottom] = [Math.min(top, i), Math.max(bottom, i)];
    }
  }
  if (!mass) return null;
  // The sheet's pixels per pixel of the result.
  const step = Math.max(right + 1 - left, bottom + 1 - top) / ((20 / 28) * Math.min(H, W));
  const above = (x, y) => {
    x = Math.min(Math.max(x, 0), width);
    y = Math.min(Math.max(y, 0), height);
    const j = Math.min(Math.floor(x), width - 1),
      i = Math.min(Math.floor(y), height - 1);
    const r = x - j,
      d = y - i;
    return (
      (1 - d) * ((1 - r) * sums[i][j] + r * sums[i][j + 1]) +
      d * ((1 - r) * sums[i + 1][j] + r * sums[i + 1][j + 1])
    );
  };
  const x = new Float32Array(H * W);
  for (let i = 0; i < H; i++) {
    for (let j = 0; j < W; j++) {
      const x0 = mx / mass + (j - (W + 1) / 2) * step;
      const y0 = my / mass + (i - (H + 1) / 2) * step;
      const [x1, y1] = [x0 + step, y0 + step];
      const ink = above(x1, y1) - above(x0, y1) - above(x1, y0) + above(x0, y0);
      x[i * W + j] = Math.min(1, Math.max(0, ink / step ** 2));
    }
  }
  return x;
}
