// Runs a program that was read off a trace of JAX: simferProgram(program)(z) gives every output as a flat array.
"use strict";
function simferProgram(program) {
  const make = { b: Uint8Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };
  const size = (shape) => shape.reduce((a, b) => a * b, 1);
  const strides = (shape) => { const s = Array(shape.length); let n = 1;
    for (let i = shape.length - 1; i >= 0; i--) { s[i] = n; n *= shape[i]; } return s; };
  // Calls visit(i, place) for each entry of an array of this shape, the place being stepped along as `steps` says.
  function walk(shape, steps, visit, from = 0) {
    const n = size(shape), at = Array(shape.length).fill(0); let place = from;
    for (let i = 0; i < n; i++) {
      visit(i, place);
      for (let d = shape.length - 1; d >= 0; d--) {
        place += steps[d]; if (++at[d] < shape[d]) break;
        place -= steps[d] * shape[d]; at[d] = 0;
      }
    }
  }
  // erf by its series within 2.5, erfc by its continued fraction beyond (Abramowitz & Stegun 7.1.5, 7.1.14).
  function erfc(x) {
    if (x < 2.5) return 1 - erf(x);
    let f = 0; for (let k = 60; k >= 1; k--) f = (k / 2) / (x + f);
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + f);
  }
  function erf(x) {
    if (x < 0) return -erf(-x);
    if (x >= 2.5) return 1 - erfc(x);
    let term = x, sum = x;
    for (let k = 1; k < 60; k++) { term *= -x * x / k; sum += term / (2 * k + 1); }
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  function erfInv(y) { // Newton's steps from Winitzki's approximation (2008)
    if (y < 0) return -erfInv(-y);
    if (y === 0 || y >= 1) return y > 1 ? NaN : y && Infinity;
    const l = Math.log((1 - y) * (1 + y)), t = 2 / (Math.PI * 0.147) + l / 2;
    let x = Math.sqrt(Math.sqrt(t * t - l / 0.147) - t);
    for (let k = 0; k < 4; k++) x -= ((1 - y) - erfc(x)) * Math.sqrt(Math.PI) / 2 * Math.exp(x * x);
    return x;
  }
  const even = (x) => { const r = Math.round(x); return Math.abs(x % 1) === 0.5 && r % 2 ? r - 1 : r; };
  const unary = { neg: (x) => -x, exp: Math.exp, exp2: (x) => 2 ** x, log: Math.log, log1p: Math.log1p, expm1: Math.expm1,
    tanh: Math.tanh, logistic: (x) => 1 / (1 + Math.exp(-x)), sin: Math.sin, cos: Math.cos, tan: Math.tan,
    asinh: Math.asinh, acosh: Math.acosh, atanh: Math.atanh, sinh: Math.sinh, cosh: Math.cosh, asin: Math.asin,
    acos: Math.acos, atan: Math.atan, sqrt: Math.sqrt, rsqrt: (x) => 1 / Math.sqrt(x), cbrt: Math.cbrt, abs: Math.abs,
    sign: Math.sign, floor: Math.floor, ceil: Math.ceil, round: even, erf, erfc, erf_inv: erfInv, square: (x) => x * x,
    not: (x) => (x ? 0 : 1), is_finite: (x) => +Number.isFinite(x), convert: (x) => x };
  const binary = { add: (a, b) => a + b, add_any: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b,
    div: (a, b) => a / b, max: Math.max, min: Math.min, pow: Math.pow, rem: (a, b) => a % b, atan2: Math.atan2,
    and: (a, b) => a & b, or: (a, b) => a | b, xor: (a, b) => a ^ b, eq: (a, b) => +(a === b), ne: (a, b) => +(a !== b),
    lt: (a, b) => +(a < b), le: (a, b) => +(a <= b), gt: (a, b) => +(a > b), ge: (a, b) => +(a >= b) };
  const reduce = { reduce_sum: [0, (a, b) => a + b], reduce_prod: [1, (a, b) => a * b], reduce_max: [-Infinity, Math.max],
    reduce_min: [Infinity, Math.min], reduce_and: [1, (a, b) => a & b], reduce_or: [0, (a, b) => a | b] };
  // An array as an operation needs it that takes entries one by one: a side of length one goes for all along it.
  function spread(a, shape) {
    if (a.d.length === size(shape)) return a.d;
    const own = strides(a.s), skip = shape.length - a.s.length, d = new a.d.constructor(size(shape));
    walk(shape, shape.map((_, i) => (i < skip || a.s[i - skip] === 1 ? 0 : own[i - skip])), (i, p) => { d[i] = a.d[p]; });
    return d;
  }
  const other = {
    integer_pow: (out, [a], o) => { for (let i = 0; i < out.d.length; i++) out.d[i] = a.d[i] ** o.y; },
    reshape: (out, [a]) => out.d.set(a.d),
    broadcast: (out, [a], o) => { const own = strides(a.s), step = out.s.map(() => 0);
      o.dims.forEach((d, i) => { step[d] = a.s[i] === 1 ? 0 : own[i]; });
      walk(out.s, step, (i, p) => { out.d[i] = a.d[p]; }); },
    transpose: (out, [a], o) => { const own = strides(a.s);
      walk(out.s, o.order.map((d) => own[d]), (i, p) => { out.d[i] = a.d[p]; }); },
    slice: (out, [a], o) => { const own = strides(a.s), from = o.start.reduce((n, x, d) => n + x * own[d], 0);
      walk(out.s, o.strides.map((x, d) => x * own[d]), (i, p) => { out.d[i] = a.d[p]; }, from); },
    concatenate: (out, given, o) => { const own = strides(out.s); let from = 0;
      for (const a of given) { walk(a.s, own, (i, p) => { out.d[p] = a.d[i]; }, from); from += a.s[o.axis] * own[o.axis]; } },
    take: (out, given) => { const where = given[given.length - 1].d, parts = given.slice(0, -1);
      for (let i = 0; i < out.d.length; i++) { let p = where[i], k = 0;
        while (p >= parts[k].d.length) p -= parts[k++].d.length; out.d[i] = parts[k].d[p]; } },
    select: (out, given) => { const [which, ...cases] = given.map((a) => spread(a, out.s));
      for (let i = 0; i < out.d.length; i++) out.d[i] = cases[which[i]][i]; },
    clamp: (out, given) => { const [low, x, high] = given.map((a) => spread(a, out.s));
      for (let i = 0; i < out.d.length; i++) out.d[i] = Math.min(Math.max(x[i], low[i]), high[i]); },
    iota: (out, given, o) => { const n = strides(out.s)[o.axis];
      for (let i = 0; i < out.d.length; i++) out.d[i] = Math.floor(i / n) % out.s[o.axis]; },
    cumsum: (out, [a], o) => { const n = strides(a.s)[o.axis];
      for (let i = 0; i < out.d.length; i++) out.d[i] = a.d[i] + (Math.floor(i / n) % a.s[o.axis] ? out.d[i - n] : 0); },
    dot: (out, [a, b], o) => { const sa = strides(a.s), sb = strides(b.s), [ca, cb] = o.sum, [ba, bb] = o.batch;
      const free = (x, c, batch) => x.s.map((_, d) => d).filter((d) => !c.includes(d) && !batch.includes(d));
      const fa = free(a, ca, ba), fb = free(b, cb, bb), summed = ca.map((d) => a.s[d]);
      const stepA = [...ba.map((d) => sa[d]), ...fa.map((d) => sa[d]), ...fb.map(() => 0)];
      const stepB = [...bb.map((d) => sb[d]), ...fa.map(() => 0), ...fb.map((d) => sb[d])];
      const placesA = [], placesB = [], inA = [], inB = [];
      walk(out.s, stepA, (i, p) => { placesA[i] = p; }); walk(out.s, stepB, (i, p) => { placesB[i] = p; });
      walk(summed, ca.map((d) => sa[d]), (i, p) => { inA[i] = p; }); walk(summed, cb.map((d) => sb[d]), (i, p) => { inB[i] = p; });
      for (let i = 0; i < out.d.length; i++) { let t = 0; const p = placesA[i], q = placesB[i];
        for (let k = 0; k < inA.length; k++) t += a.d[p + inA[k]] * b.d[q + inB[k]]; out.d[i] = t; } },
    triangular_solve: (out, [a, b], o) => { // a x = b, or x a = b, by substitution
      const n = a.s[0], [rows, cols] = out.s; const entry = (i, j) => a.d[o.transpose_a ? j * n + i : i * n + j];
      let lower = o.lower !== o.transpose_a; if (!o.left_side) lower = !lower;
      const coefficient = (i, j) => (o.left_side ? entry(i, j) : entry(j, i)), lines = o.left_side ? cols : rows;
      const at = (i, line) => (o.left_side ? i * cols + line : line * cols + i);
      for (let line = 0; line < lines; line++) for (let m = 0; m < n; m++) { const i = lower ? m : n - 1 - m;
        let t = b.d[at(i, line)]; for (let k = 0; k < m; k++) { const j = lower ? k : n - 1 - k; t -= coefficient(i, j) * out.d[at(j, line)]; }
        out.d[at(i, line)] = o.unit_diagonal ? t : t / coefficient(i, i); } },
  };
  function unpack(stored) {
    const bytes = Uint8Array.from(atob(stored.data), (c) => c.charCodeAt(0)), n = size(stored.shape);
    const kind = make[stored.kind], own = kind.from(new make[stored.as || stored.kind](bytes.buffer));
    return { s: stored.shape, d: own.length === n ? own : new kind(n).fill(own[0]) };
  }
  const constants = Object.entries(program.constants).map(([at, stored]) => [at, unpack(stored)]);
  const room = program.steps.map(([, , , shape, kind]) => ({ s: shape, d: new make[kind](size(shape)) }));
  return function run(z) {
    const values = {}; for (const [at, value] of constants) values[at] = value;
    values[program.input] = { s: [z.length], d: Float64Array.from(z) };
    program.steps.forEach(([op, ids, number, , , options], k) => {
      const out = room[k], given = ids.map((id) => values[id]);
      if (unary[op]) { const f = unary[op], d = given[0].d; for (let i = 0; i < out.d.length; i++) out.d[i] = f(d[i]); }
      else if (binary[op]) { const f = binary[op], [a, b] = given.map((each) => spread(each, out.s));
        for (let i = 0; i < out.d.length; i++) out.d[i] = f(a[i], b[i]); }
      else if (reduce[op]) { const [start, f] = reduce[op], a = given[0], kept = strides(out.s); out.d.fill(start); let j = 0;
        const step = a.s.map((_, d) => (options.axes.includes(d) ? 0 : kept[j++]));
        walk(a.s, step, (i, p) => { out.d[p] = f(out.d[p], a.d[i]); }); }
      else if (other[op]) other[op](out, given, options);
      else throw new Error(`unknown operation ${op}`);
      values[number] = out;
    });
    return Object.fromEntries(Object.entries(program.outputs).map(([name, at]) => [name, Float64Array.from(values[at].d)]));
  };
}
