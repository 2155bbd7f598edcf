// Turns a drawing into an image like MNIST's.

const inked = (ink, at) => ink[at] > 1e-3;

/**
 * A drawing prepared as MNIST's digits were (LeCun et al. 1998), or null if the sheet is empty.
 *
 * It is scaled, keeping its aspect ratio, until the longer side takes 20 of 28 pixels; smoothed by
 * averaging over the area of each pixel; and moved until its centre of mass is in the middle of the
 * frame. In MNIST that is the middle of pixel 14, counting from 0, which is half a pixel away from
 * the frame's own.
 *
 * @param ink gray values of the sheet: 0 for paper, 1 for the pen
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
  // How many pixels of the sheet make one pixel of the result.
  const step = Math.max(right + 1 - left, bottom + 1 - top) / ((20 / 28) * Math.min(H, W));
  // The ink above y and left of x, between the sheet's pixels too.
  const inkBefore = (x, y) => {
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
      const inside = inkBefore(x1, y1) - inkBefore(x0, y1) - inkBefore(x1, y0) + inkBefore(x0, y0);
      x[i * W + j] = Math.min(1, Math.max(0, inside / step ** 2));
    }
  }
  return x;
}
