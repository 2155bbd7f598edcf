// Weights and digits reach a page deflated and in base64, the weights rounded besides.

/** The bytes of a base64 string that holds a zlib stream. */
export async function inflate(base64) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < packed.length; i++) packed[i] = text.charCodeAt(i); // from() is far slower
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The weights of these layers, from what `pack` in export.py makes of them. */
export function fromSteps(bytes, layers) {
  const total = (count) => layers.reduce((sum, [, dOut, dIn]) => sum + count(dOut, dIn), 0);
  const [n, rows] = [total((dOut, dIn) => dOut * dIn), total((dOut) => dOut)];
  const scales = new Float32Array(bytes.slice(0, 8 * rows).buffer); // slice() aligns them
  const low = bytes.subarray(8 * rows, 8 * rows + n);
  const high = new Int8Array(bytes.buffer, bytes.byteOffset + 8 * rows + n, n);
  const weights = new Float32Array(n + rows);
  let [from, to, at] = [0, 0, 0];
  for (const [, dOut, dIn] of layers) {
    for (let row = 0; row < dOut; row++) {
      const step = scales[at + row];
      for (let i = 0; i < dIn; i++, from++) {
        weights[to++] = step * (256 * high[from] + low[from] - 128);
      }
    }
    weights.set(scales.subarray(at + dOut, at + 2 * dOut), to);
    to += dOut;
    at += 2 * dOut;
  }
  return weights;
}

/** Images, and the same images binarized, from one byte per pixel: first all, then all binarized. */
export function digitsOf(bytes, [height, width], labels) {
  const n = height * width;
  const all = Array.from({ length: bytes.length / n }, (_, i) =>
    Float32Array.from(bytes.subarray(i * n, (i + 1) * n), (v) => v / 255),
  );
  const half = all.length / 2;
  return { labels, images: all.slice(0, half), binary: all.slice(half) };
}
