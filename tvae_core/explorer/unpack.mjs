// Weights and digits reach a page deflated and in base64, the weights as float16 besides.

/** The bytes of a base64 string that holds a zlib stream. */
export async function inflate(base64) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < packed.length; i++) packed[i] = text.charCodeAt(i); // from() is far slower
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The float16 numbers whose low bytes all come first, followed by all their high bytes. */
export function fromHalves(bytes) {
  const n = bytes.length / 2;
  const numbers = new Float32Array(n);
  // The high byte holds the sign, the exponent and two bits of the fraction, so a number is
  // offset + step * low byte, with 256 possible offsets and steps. Exponent 0 means that there is
  // no leading 1 bit. Exponent 31 (infinity and NaN) never occurs in weights.
  const step = new Float64Array(256);
  const offset = new Float64Array(256);
  for (let high = 0; high < 256; high++) {
    const exponent = (high >> 2) & 31;
    step[high] = (high & 128 ? -1 : 1) * 2 ** (Math.max(exponent, 1) - 25);
    offset[high] = step[high] * ((exponent ? 1024 : 0) + ((high & 3) << 8));
  }
  for (let i = 0; i < n; i++) {
    const high = bytes[n + i];
    numbers[i] = offset[high] + step[high] * bytes[i];
  }
  return numbers;
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
