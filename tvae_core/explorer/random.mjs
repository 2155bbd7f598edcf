// Random numbers that a seed repeats.

/** Uniform numbers in (0, 1) from a seed (Marsaglia's xorshift, 32 bits). */
export function uniforms(seed) {
  let state = (seed * 2654435761 + 88675123) >>> 0 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 16; i++) next(); // small seeds differ in only a few bits
  return next;
}

/** n draws from N(0, 1), two from each pair of uniform numbers (Box and Muller 1958). */
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

/** Set each pixel to 1 with the probability that its gray value gives, else to 0. */
export const binarize = (x, uniform) => x.map((p) => (uniform() < p ? 1 : 0));
