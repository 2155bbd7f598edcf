// Log-probabilities, importance weights, and the bounds on log p(x) made of them. All in nats.
import { decode, split } from "./model.mjs";

const LOG_2PI = Math.log(2 * Math.PI);

/** log p(x | z, u) of independent Bernoulli pixels. For gray x it is minus the cross-entropy. */
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

const shifted = ({ mean, sigma }, noise) => mean.map((m, i) => m + sigma[i] * noise[i]);

/**
 * One importance sample: latents = mean + sigma * noise, its log-terms, and `normal`, the mean and
 * sigma that it was drawn with.
 * logW = log p(x | latents) + log p(latents) - log q(latents | x).
 */
export function particle(model, x, q, noise) {
  // First u is drawn, and then z given u.
  const [, u] = split(model, shifted(q, noise));
  const normal = q.given(u);
  const { sigma } = normal;
  const latents = shifted(normal, noise);
  let logPrior = 0,
    logQ = 0;
  for (let i = 0; i < latents.length; i++) {
    logPrior -= (latents[i] * latents[i] + LOG_2PI) / 2;
    logQ -= (noise[i] * noise[i] + LOG_2PI) / 2 + Math.log(sigma[i]);
  }
  const lik = logLik(decode(model, latents).logits, x);
  return { latents, normal, logLik: lik, logPrior, logQ, logW: lik + logPrior - logQ };
}

/** The share of draws from N(0, 1) in n dimensions that are shorter than `length`. */
export function shareShorter(length, n) {
  if (length > Math.sqrt(n) + 9) return 1; // up to rounding
  // The series of the regularised incomplete gamma function P(n / 2, x).
  const x = length ** 2 / 2;
  let logTerm = (n / 2) * Math.log(x) - x - (n % 2 ? Math.log(Math.PI) / 2 : 0);
  for (let k = n / 2; k > 0; k--) logTerm -= Math.log(k);
  let [term, share] = [Math.exp(logTerm), 0];
  for (let k = n / 2 + 1; k < n / 2 + 2 * x + 60; k++) {
    share += term;
    term *= x / k;
  }
  return share;
}

/** Mean and standard error. The error of a single value is null. */
export function meanSe(values) {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return { mean, se: n > 1 ? Math.sqrt(squares / (n - 1) / n) : null };
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
 * The estimate of log p(x) from K log-weights, log 1/K sum_k w_k (Burda et al. 2016, section 5),
 * its standard error by the delta method, and the effective sample size (sum w)^2 / sum w^2.
 */
export function estimate(logW) {
  const k = logW.length;
  const logSum = logSumExp(logW);
  const logEss = 2 * logSum - logSumExp(logW.map((w) => 2 * w));
  return {
    logP: logSum - Math.log(k),
    se: Math.sqrt(Math.max(0, Math.exp(-logEss) - 1 / k)),
    ess: Math.exp(logEss),
  };
}

/** The bound with k draws, from K >= k log-weights: log 1/k sum w, averaged over K / k groups. */
export function bound(logW, k) {
  const groups = Math.floor(logW.length / k);
  const values = [];
  for (let g = 0; g < groups; g++) {
    values.push(logSumExp(logW.subarray(g * k, (g + 1) * k)) - Math.log(k));
  }
  return { k, ...meanSe(values) };
}
