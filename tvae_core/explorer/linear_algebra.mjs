// Small systems of linear equations, solved in float64.

/** The solutions of A v = b for each b, by Gaussian elimination with pivoting. */
export function solve(A, bs) {
  const n = A.length;
  const rows = A.map((row, i) => Float64Array.from([...row, ...bs.map((b) => b[i])]));
  for (let c = 0; c < n; c++) {
    let pivot = c;
    for (let r = c + 1; r < n; r++) if (Math.abs(rows[r][c]) > Math.abs(rows[pivot][c])) pivot = r;
    [rows[c], rows[pivot]] = [rows[pivot], rows[c]];
    for (let r = 0; r < n; r++) {
      const factor = r === c ? 0 : rows[r][c] / rows[c][c];
      if (factor) for (let k = c; k < n + bs.length; k++) rows[r][k] -= factor * rows[c][k];
    }
  }
  return bs.map((_, k) => Float64Array.from(rows, (row, i) => row[n + k] / row[i]));
}

/**
 * The v that minimises |W v - target|^2 + ridge |v|^2, W being the layer's matrix.
 *
 * With ridge = 0 this is the shortest least-squares solution. A trace of a ridge is always added,
 * to keep a singular W from dividing by zero.
 */
export function leastSquares({ weight, dOut, dIn }, target, ridge) {
  const W = (i, k) => weight[i * dIn + k];
  const transposed = (v) => Array.from({ length: dIn }, (_, k) => sum(dOut, (i) => W(i, k) * v[i]));
  // W' (W W' + ridge)^-1 and (W' W + ridge)^-1 W' are equal; invert the smaller matrix.
  if (dOut <= dIn) {
    const gram = ridged(dOut, (i, j) => sum(dIn, (k) => W(i, k) * W(j, k)), ridge);
    return transposed(solve(gram, [target])[0]);
  }
  const gram = ridged(dIn, (k, l) => sum(dOut, (i) => W(i, k) * W(i, l)), ridge);
  return solve(gram, [transposed(target)])[0];
}

function sum(n, term) {
  let total = 0;
  for (let i = 0; i < n; i++) total += term(i);
  return total;
}

function ridged(n, entry, ridge) {
  const indices = [...Array(n).keys()];
  const matrix = indices.map((i) => Float64Array.from(indices, (j) => entry(i, j)));
  const trace = sum(n, (i) => matrix[i][i]);
  matrix.forEach((row, i) => (row[i] += ridge + 1e-13 * trace + 1e-30));
  return matrix;
}
