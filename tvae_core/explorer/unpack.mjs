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

/**
 * Images, and the same images binarized, from one byte per pixel: first all, then all binarized.
 *
 * Images of the size `own` come in the middle of frames of the model's size.
 */
export function digitsOf(bytes, [height, width], labels, own = [height, width]) {
  const n = own[0] * own[1];
  const [top, left] = [Math.floor((height - own[0]) / 2), Math.floor((width - own[1]) / 2)];
  const all = Array.from({ length: bytes.length / n }, (_, i) => {
    const framed = new Float32Array(height * width);
    for (let at = 0; at < n; at++) {
      const [row, column] = [Math.floor(at / own[1]), at % own[1]];
      framed[(row + top) * width + column + left] = bytes[i * n + at] / 255;
    }
    return framed;
  });
  const half = all.length / 2;
  return { labels, images: all.slice(0, half), binary: all.slice(half) };
}
