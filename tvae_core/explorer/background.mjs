// Long computations, cut into pieces so that they do not hold up the page.

const SLICE_MS = 10;

/**
 * Call `piece` repeatedly, between frames, until it returns true.
 *
 * Returns a function that stops this early.
 */
export function inBackground(piece) {
  let timer;
  const run = () => {
    const end = performance.now() + SLICE_MS;
    while (performance.now() < end) if (piece()) return;
    timer = setTimeout(run);
  };
  timer = setTimeout(run);
  return () => clearTimeout(timer);
}
