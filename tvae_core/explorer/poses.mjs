// Poses in degrees and pixels, as tvae_core.poses reports them. Maps are [[a, b, tx], [c, d, ty]].

/** The matrix that undoes a turn by so many degrees, counter-clockwise as one sees it. */
export function inverseOf(degrees) {
  const angle = (degrees * Math.PI) / 180; // y points downwards
  return [
    [Math.cos(angle), -Math.sin(angle)],
    [Math.sin(angle), Math.cos(angle)],
  ];
}

/**
 * The move between two pictures from the affine maps of their grids: P = after^-1 before, in pixels.
 *
 * Its turn is counter-clockwise; its shifts are to the right and downwards.
 */
export function poseBetween(before, after, [height, width]) {
  const [[a, b, tx], [c, d, ty]] = after;
  const det = a * d - b * c;
  const back = (x, y) => [(d * x - b * y) / det, (a * y - c * x) / det];
  const [m, n] = back(before[0][0], before[1][0]); // where the x axis goes
  const [right, down] = back(before[0][2] - tx, before[1][2] - ty);
  return {
    degrees: (Math.atan2((-n * height) / width, m) * 180) / Math.PI,
    right: (right * width) / 2,
    down: (down * height) / 2,
  };
}
