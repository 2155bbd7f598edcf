// What dragging a handle of the sampling grid does to the warp's parameters.
import { controlPoints } from "./warps.mjs";

/**
 * theta after one of the grid's 3 x 3 handles has been dragged to (x, y).
 *
 * The handles of a spline are its control points. The handles of the affine grid are its centre,
 * which moves the grid; the middles of its edges, which stretch and shear it about the centre; and
 * its corners, which turn and scale it in the picture. Either way, the dragged handle ends up at
 * (x, y).
 */
export function dragged({ warp, size: [height, width] }, theta, handle, [x, y]) {
  const points = controlPoints(3);
  const [cx, cy] = [points[2 * handle], points[2 * handle + 1]];
  const after = Float64Array.from(theta);
  if (warp === "tps") {
    after[handle] = x - cx;
    after[9 + handle] = y - cy;
    return after;
  }
  // The grid is A (x, y)' + t, and theta = (A - 1 | t), row by row.
  const A = [
    [1 + after[0], after[1]],
    [after[3], 1 + after[4]],
  ];
  const [dx, dy] = [x - after[2], y - after[5]];
  if (!cx && !cy) {
    after[2] = x;
    after[5] = y;
  } else if (!cx || !cy) {
    const column = cx ? 0 : 1;
    A[0][column] = dx / (cx + cy);
    A[1][column] = dy / (cx + cy);
  } else {
    const [vx, vy] = [A[0][0] * cx + A[0][1] * cy, A[1][0] * cx + A[1][1] * cy];
    const ratio = height / width; // angles are those between pixels
    const squared = vx * vx + ratio * ratio * vy * vy || 1e-12;
    const scale = (dx * vx + ratio * ratio * dy * vy) / squared;
    const turn = (ratio * (dy * vx - dx * vy)) / squared;
    for (const column of [0, 1]) {
      const [top, bottom] = [A[0][column], A[1][column]];
      A[0][column] = scale * top - turn * ratio * bottom;
      A[1][column] = (turn / ratio) * top + scale * bottom;
    }
  }
  [after[0], after[1], after[3], after[4]] = [A[0][0] - 1, A[0][1], A[1][0], A[1][1] - 1];
  return after;
}
