// Sampling grids, the displacement fields that they are made of, and sampling an image through one.
//
// A grid holds (x, y) for each pixel of the output. -1 and 1 are the outer edges of the image.
import { solve } from "./linear_algebra.mjs";

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

/** points + sum_p coefficients_p * fields_p. */
export function displace(points, fields, coefficients) {
  const displaced = Float32Array.from(points);
  fields.forEach((field, p) => {
    const c = coefficients[p];
    for (let i = 0; i < displaced.length; i++) displaced[i] += c * field[i];
  });
  return displaced;
}

/** The affine map [[a, b, tx], [c, d, ty]] that a grid comes closest to. */
export function affineOf(grid, size) {
  const centres = pixelCentres(size);
  const n = grid.length / 2;
  // Over the pixels' centres, 1, x and y are orthogonal, so A and t are projections on each of them.
  const projection = (axis, f) => {
    let [product, square] = [0, 0];
    for (let i = 0; i < n; i++) {
      const value = f(centres[2 * i], centres[2 * i + 1]);
      product += value * grid[2 * i + axis];
      square += value ** 2;
    }
    return product / square;
  };
  return [0, 1].map((axis) => [
    projection(axis, (x) => x),
    projection(axis, (x, y) => y),
    projection(axis, () => 1),
  ]);
}

/**
 * The grid that undoes a grid, which looks at A p + t + bend(p) from each pixel's centre p.
 *
 * The inverse of a point c is the solution of p = A^-1 (c - t - bend(p)), in which the bend is taken
 * at c, and in each step of `refine` at the p found so far. That is exact where nothing bends. The
 * determinant of A is kept at least `least_det` away from 0.
 */
export function inverseGrid(grid, { size, refine, least_det }) {
  const centres = pixelCentres(size);
  const n = grid.length / 2;
  const [[a, b, tx], [c, d, ty]] = affineOf(grid, size);
  const det = a * d - b * c;
  const kept = det < 0 ? Math.min(det, -least_det) : Math.max(det, least_det);
  const bend = [new Float32Array(n), new Float32Array(n)];
  for (let i = 0; i < n; i++) {
    const [x, y] = [centres[2 * i], centres[2 * i + 1]];
    bend[0][i] = grid[2 * i] - (a * x + b * y + tx);
    bend[1][i] = grid[2 * i + 1] - (c * x + d * y + ty);
  }
  const inverse = new Float32Array(2 * n);
  const solveWith = ([bendX, bendY]) => {
    for (let i = 0; i < n; i++) {
      const x = centres[2 * i] - tx - bendX[i];
      const y = centres[2 * i + 1] - ty - bendY[i];
      inverse[2 * i] = (d * x - b * y) / kept;
      inverse[2 * i + 1] = (a * y - c * x) / kept;
    }
  };
  solveWith(bend);
  for (let step = 0; step < refine; step++) {
    solveWith(bend.map((each) => sample(each, size, inverse, "border")));
  }
  return inverse;
}

/** The displacement field at `points` of each function (x, y) -> (dx, dy). */
function fieldsOf(functions, points) {
  return functions.map((f) => {
    const field = new Float64Array(points.length);
    for (let i = 0; i < points.length; i += 2) field.set(f(points[i], points[i + 1]), i);
    return field;
  });
}

/** Each scalar function as a displacement along x, then each as one along y. */
const alongEachAxis = (scalars) => [
  ...scalars.map((f) => (x, y) => [f(x, y), 0]),
  ...scalars.map((f) => (x, y) => [0, f(x, y)]),
];

const TRANSLATION = alongEachAxis([() => 1]);
// A turn is one of pixels, so it depends on the shape of the image.
const similarity = ([height, width]) => [
  (x, y) => [x, y],
  (x, y) => [(-y * height) / width, (x * width) / height],
  ...TRANSLATION,
];
const AFFINE = alongEachAxis([(x) => x, (x, y) => y, () => 1]);

/**
 * The warps by name, functions of the image's size and, for a spline, of n (n x n control points).
 * fieldsAt(points) returns a warp's displacement fields at any points.
 * coefficients(theta) returns the coefficients of the fields, where they differ from theta.
 */
export const WARPS = {
  translation: () => ({ fieldsAt: (points) => fieldsOf(TRANSLATION, points) }),
  rotation: (size) => ({
    fieldsAt: (points) => fieldsOf(similarity(size).slice(0, 2), points),
    coefficients: ([angle]) => [Math.cos(angle) - 1, Math.sin(angle)],
  }),
  similarity: (size) => ({ fieldsAt: (points) => fieldsOf(similarity(size), points) }),
  affine: () => ({ fieldsAt: (points) => fieldsOf(AFFINE, points) }),
  tps: (size, n) => ({ fieldsAt: (points) => splineFields(points, size, n) }),
};

/** U(r) = r^2 log r^2 from a point to every centre, in the picture's proportions; then 1, x, y. */
function splineTerms(x, y, centres, [height, width]) {
  const terms = [];
  const side = Math.max(height, width);
  for (let i = 0; i < centres.length; i += 2) {
    const [dx, dy] = [(x - centres[i]) * (width / side), (y - centres[i + 1]) * (height / side)];
    const squared = dx ** 2 + dy ** 2;
    terms.push(squared ? squared * Math.log(squared) : 0);
  }
  return [...terms, 1, x, y];
}

/** The fields of the thin-plate spline with n x n control points (Bookstein 1989). */
function splineFields(points, size, n) {
  const centres = controlPoints(n);
  const m = n * n;
  const termsAt = (x, y) => splineTerms(x, y, centres, size);
  const system = [];
  for (let i = 0; i < m; i++) system.push(termsAt(centres[2 * i], centres[2 * i + 1]));
  for (let p = 0; p < 3; p++) {
    system.push([...system.slice(0, m).map((row) => row[m + p]), 0, 0, 0]);
  }
  // For each control point, the spline that moves it by 1 and holds the others.
  const unit = (i) => system.map((_, row) => (row === i ? 1 : 0));
  const splines = solve(
    system,
    Array.from({ length: m }, (_, i) => unit(i)),
  );
  const influence = (spline) => (x, y) =>
    termsAt(x, y).reduce((sum, term, i) => sum + term * spline[i], 0);
  return fieldsOf(alongEachAxis(splines.map(influence)), points);
}

/** How far two grids are from each other, in pixels, on average over the pixels. */
export function apart(a, b, [height, width]) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 2) {
    sum += Math.hypot(((a[i] - b[i]) * width) / 2, ((a[i + 1] - b[i + 1]) * height) / 2);
  }
  return (2 * sum) / a.length;
}

/** How a coordinate outside the frame of n pixels is brought inside. */
const PADDING = {
  zeros: (at) => at,
  border: (at, n) => Math.min(Math.max(at, 0), n - 1),
  reflection: (at, n) => {
    const phase = Math.abs(at + 0.5) % (2 * n); // n pixels there and n back
    return Math.min(Math.max((phase > n ? 2 * n - phase : phase) - 0.5, 0), n - 1);
  },
};

/** Bilinear sampling of an image at a grid (Jaderberg et al. 2015, eq. 5). */
export function sample(image, [height, width], grid, padding) {
  const sampled = new Float32Array(grid.length / 2);
  const inside = PADDING[padding];
  const pixel = (i, j) => (i >= 0 && j >= 0 && i < height && j < width ? image[i * width + j] : 0);
  for (let at = 0; at < sampled.length; at++) {
    const x = inside(((grid[2 * at] + 1) * width - 1) / 2, width);
    const y = inside(((grid[2 * at + 1] + 1) * height - 1) / 2, height);
    const j = Math.floor(x),
      i = Math.floor(y);
    const right = x - j,
      down = y - i;
    sampled[at] =
      (1 - down) * ((1 - right) * pixel(i, j) + right * pixel(i, j + 1)) +
      down * ((1 - right) * pixel(i + 1, j) + right * pixel(i + 1, j + 1));
  }
  return sampled;
}
