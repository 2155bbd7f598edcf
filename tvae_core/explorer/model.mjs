// The trained model in plain JavaScript: pure functions that need no page.
//
// Names, shapes and coordinates are those of tvae_core. An image is a Float32Array of H * W gray
// values, row by row. Sums are accumulated in float64 and stored in float32, so results differ from
// PyTorch's by float32 rounding.
import { leastSquares } from "./linear_algebra.mjs";
import { displace, inverseGrid, pixelCentres, sample, WARPS } from "./warps.mjs";

/**
 * The model that a configuration and its weights describe. export.py writes both.
 *
 * @param config size [H, W], dim_z, dim_u, warp (a key of WARPS, or null), points (control points
 *   per side of a spline), resample, padding, floor, look (null, or what a SecondLook reads z
 *   from), bounded (whether the mean of u passes through a tanh), refine, least_det,
 *   log_sigma_range, binarized, mean_kl and informative (of each latent), and layers: [part, d_out,
 *   d_in] of each linear layer
 * @param weights Float32Array: each layer's matrix, row by row, then its bias, in order of layers
 */
export function buildModel(config, weights) {
  const parts = {};
  let at = 0;
  for (const [part, dOut, dIn] of config.layers) {
    const weight = weights.subarray(at, (at += dOut * dIn));
    const bias = weights.subarray(at, (at += dOut));
    (parts[part] ??= []).push({ weight, bias, dOut, dIn });
  }
  if (at !== weights.length) {
    throw new Error(`the layers need ${at} weights, got ${weights.length}`);
  }
  const identity = pixelCentres(config.size);
  const warp = config.warp ? WARPS[config.warp](config.size, config.points) : null;
  return {
    ...config,
    encoderBody: parts.encoder_body,
    muZ: parts.mu_z[0],
    muU: parts.mu_u?.[0],
    logSigma: parts.log_sigma?.[0],
    logSigmaZ: parts.log_sigma_z?.[0],
    logSigmaU: parts.log_sigma_u?.[0],
    read: parts.read?.[0],
    readPose: parts.read_pose?.[0],
    readerBody: parts.reader_body ?? [],
    decoderBody: parts.decoder_body,
    logits: parts.logits[0],
    pose: parts.pose?.[0],
    identity,
    fieldsAt: warp?.fieldsAt,
    coefficients: warp?.coefficients ?? ((theta) => theta),
    basis: warp?.fieldsAt(identity),
  };
}

// ---------------------------------------------------------------- layers

/** W x + b. */
function linear({ weight, bias, dOut, dIn }, x) {
  const y = new Float32Array(dOut);
  for (let row = 0, at = 0; row < dOut; row++) {
    // Four sums side by side: with one sum, every addition would wait for the one before it.
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

const relu = (x) => x.map((value) => Math.max(value, 0));

const mlp = (layers, x) => layers.reduce((h, layer) => relu(linear(layer, h)), x);

const sigmoid = (logits) => logits.map((l) => 1 / (1 + Math.exp(-l)));

const concatenate = (a, b) => {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
};

// ---------------------------------------------------------------- encoder and decoder

/**
 * q(z, u | x): mean and sigma of each latent, z first, and given(u), the same for a drawn u.
 *
 * Where the encoder looks twice, z depends on the drawn u, and mean and sigma are those at the mean
 * of u. Where it straightens the image, `straightened` is x as seen at the mean of u.
 */
export const encode = (model, x) => (model.look ? lookTwice : lookOnce)(model, x);

function sigmaOf(model, layer, h) {
  const [low, high] = model.log_sigma_range;
  return linear(layer, h).map((s) => Math.exp(Math.min(Math.max(s, low), high)));
}

/** `models.Encoder`. The mean of u passes through a tanh, if it is bounded. */
function lookOnce(model, x) {
  const h = mlp(model.encoderBody, x);
  const muZ = linear(model.muZ, h);
  const free = model.dim_u ? linear(model.muU, h) : [];
  const muU = model.bounded ? free.map(Math.tanh) : free;
  const q = { mean: concatenate(muZ, muU), sigma: sigmaOf(model, model.logSigma, h) };
  return { ...q, given: () => q };
}

/** `models.SecondLook`: q(u | x), and then q(z | x, u). */
function lookTwice(model, x) {
  const h = mlp(model.encoderBody, x);
  const muU = linear(model.muU, h);
  const sigmaU = sigmaOf(model, model.logSigmaU, h);
  const atMean = model.look === "pose" ? x : straighten(model, x, muU);
  const given = (u) => {
    const seen = model.look === "straight" ? straighten(model, x, u) : atMean;
    const pose = linear(model.readPose, u);
    const first = linear(model.read, seen).map((sum, i) => sum + pose[i]);
    const hz = mlp(model.readerBody, relu(first));
    return {
      mean: concatenate(linear(model.muZ, hz), muU),
      sigma: concatenate(sigmaOf(model, model.logSigmaZ, hz), sigmaU),
    };
  };
  return { ...given(muU), given, straightened: model.look === "pose" ? null : atMean };
}

/** The image seen through the inverse of the warp of u. */
export function straighten(model, x, u) {
  const grid = gridOf(model, thetaOf(model, u));
  return sample(x, model.size, inverseGrid(grid, model), "zeros");
}

/** (z, u) of a latent vector. */
export const split = (model, latents) => [
  latents.subarray(0, model.dim_z),
  latents.subarray(model.dim_z),
];

/** The logits of c(z), the image before the warp. */
const canonicalLogits = (model, z) => linear(model.logits, mlp(model.decoderBody, z));

/** c(z): pixel probabilities before the warp. Without a warp they are those of p(x | z). */
export const canonical = (model, z) => sigmoid(canonicalLogits(model, z));

/**
 * p(x | z, u): the canonical image, theta and the sampling grid (both null without a warp), and the
 * logits and probabilities of the output's pixels.
 */
export function decode(model, latents) {
  const [z, u] = split(model, latents);
  const unwarped = canonicalLogits(model, z);
  const image = sigmoid(unwarped);
  if (!model.warp) return { canonical: image, theta: null, grid: null, logits: unwarped, image };
  const theta = thetaOf(model, u);
  const grid = gridOf(model, theta);
  const { size, floor } = model;
  let logits;
  if (model.resample === "probs") {
    logits = sample(image, size, grid, model.padding).map((p) => {
      const squeezed = Math.fround(floor + (1 - 2 * floor) * p);
      return Math.log(squeezed / (1 - squeezed));
    });
  } else {
    // Logits are measured from the background's, so that zero padding is empty and not p = 1/2.
    const background = Math.log(floor / (1 - floor));
    const aboveBackground = unwarped.map((l) => l - background);
    logits = sample(aboveBackground, size, grid, model.padding).map((l) => l + background);
  }
  return { canonical: image, theta, grid, logits, image: sigmoid(logits) };
}

// ---------------------------------------------------------------- pose

/** theta = W u + b, the parameters of the warp. */
export const thetaOf = (model, u) => linear(model.pose, u);

/** The sampling grid of theta: where each pixel of the output looks. */
export function gridOf(model, theta) {
  return displace(model.identity, model.basis, model.coefficients(theta));
}

const plus = (u, step) => Float32Array.from(u, (value, k) => value + step[k]);
const missing = (model, theta, u) => thetaOf(model, u).map((now, i) => theta[i] - now);

/**
 * The u whose theta comes closest to the given one, and of several such u the one closest to the
 * given u.
 */
export const uOf = (model, theta, u) =>
  plus(u, leastSquares(model.pose, missing(model, theta, u), 0));

// How far theta may miss what the reader asks for, for the sake of a likely u.
const TOLERANCE = 0.1;

/**
 * The most likely u under the prior N(0, 1) if theta need only be met to within about TOLERANCE.
 *
 * Uninformative latents stay as they are: they would have to be huge to move anything.
 */
export function likelyU(model, theta, u) {
  const { weight, dIn } = model.pose;
  const informative = model.informative.slice(model.dim_z);
  // A model whose latents are all uninformative, such as an untrained one, may move any.
  const moves = (k) => informative[k] || !informative.includes(true);
  const start = u.map((value, k) => (moves(k) ? 0 : value));
  const moving = { ...model.pose, weight: weight.map((w, at) => (moves(at % dIn) ? w : 0)) };
  return plus(start, leastSquares(moving, missing(model, theta, start), TOLERANCE ** 2));
}
