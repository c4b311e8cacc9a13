// Sliders over the prior; the emulator's outputs with their error, against the data.
(function () {
  const d = JSON.parse(document.getElementById("emulator").textContent), run = simferProgram(d.program);
  const play = document.getElementById("play"), N = "http://www.w3.org/2000/svg";
  const tag = (name, text, more = {}) => { const e = document.createElement(name); if (text) e.textContent = text;
    Object.assign(e, more); return e; };
  const draw = (name, attributes, text) => { const e = document.createElementNS(N, name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v); if (text) e.textContent = text; return e; };
  const digits = (x) => (!Number.isFinite(x) ? "–" : String(+x.toPrecision(4)));
  const withUnit = (name, unit) => (unit ? `${name} [${unit}]` : name);
  const MOST = 6, COLOURS = ["--blue", "--orange", "--good", "--bad", "--sky", "--soft"];
  const places = d.parameters.map((p) => (p.posterior ? p.posterior[1] : (p.steps[0] + p.steps[p.steps.length - 1]) / 2));

  function interpolate(x, xs, ys) {
    let i = 1; while (i < xs.length - 1 && xs[i] < x) i++;
    return ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / (xs[i] - xs[i - 1]);
  }
  function point() {
    const z = []; d.parameters.forEach((p, k) => {
      const turn = 2 * Math.PI * places[k];
      if (p.at[1] - p.at[0] === 2) z.push(Math.SQRT2 * Math.cos(turn), Math.SQRT2 * Math.sin(turn)); else z.push(places[k]);
    }); return z;
  }
  function settle(z) { // put the sliders where a draw is
    d.parameters.forEach((p, k) => {
      if (p.at[1] - p.at[0] === 2) { const t = Math.atan2(z[p.at[0] + 1], z[p.at[0]]) / 2 / Math.PI; places[k] = t < 0 ? t + 1 : t; }
      else places[k] = Math.max(p.steps[0], Math.min(p.steps[p.steps.length - 1], z[p.at[0]]));
    });
  }

  // The sliders.
  const controls = tag("div", "", { className: "controls" }), rows = [];
  d.parameters.forEach((p, k) => {
    const row = tag("label", "", { className: "slider" }), low = p.steps[0], high = p.steps[p.steps.length - 1];
    const input = tag("input", "", { type: "range", min: low, max: high, step: (high - low) / 600, value: places[k] });
    const value = tag("output"), bar = tag("span", "", { className: "bar" });
    input.setAttribute("aria-label", withUnit(p.name, p.unit));
    if (p.posterior) { const [a, , b] = p.posterior.map((x) => 100 * (x - low) / (high - low));
      const mark = tag("span", "", { className: "mark" }); mark.style.left = `${a}%`; mark.style.width = `${Math.max(b - a, 0.6)}%`; bar.append(mark); }
    input.addEventListener("input", () => { places[k] = +input.value; show(); });
    const effect = tag("span", "", { className: "effect" });
    row.append(tag("span", withUnit(p.name, p.unit)), value, input, bar, effect); controls.append(row); rows.push({ input, value, effect });
  });
  const buttons = tag("p"); let next = 0;
  const button = (text, act) => { const b = tag("button", text, { type: "button" }); b.addEventListener("click", act); buttons.append(b, " "); };
  if (d.parameters.some((p) => p.posterior)) button("Posterior's median", () => { d.parameters.forEach((p, k) => { if (p.posterior) places[k] = p.posterior[1]; }); show(); });
  if (d.draws.length) button("Another posterior draw", () => { settle(d.draws[next++ % d.draws.length]); show(); });
  button("Prior's median", () => { d.parameters.forEach((p, k) => { places[k] = (p.steps[0] + p.steps[p.steps.length - 1]) / 2; }); show(); });
  const inside = tag("span", "", { className: "note" }); buttons.append(inside); controls.append(buttons);
  const panels = tag("div", "", { className: "panels" }); play.append(controls, panels);

  // An output: its last dimension along the axis, a curve for each of a few entries of the others.
  const shown = d.outputs.map((o) => {
    const box = tag("div"), n = o.dims.length, x = n ? o.dims[n - 1][2] : [0], total = o.dims.reduce((t, e) => t * e[2].length, 1);
    const measured = o.data ? [...new Set(o.data.values.map((_, i) => lies(o, i)[0]))].sort((a, b) => a - b) : [];
    const curves = measured.length ? measured : [...Array(total / x.length).keys()], count = Math.min(curves.length, MOST);
    const kept = [...Array(count).keys()].map((i) => curves[Math.round(i * (curves.length - 1) / Math.max(count - 1, 1))]);
    const svg = draw("svg", { viewBox: "0 0 360 230", role: "img", "aria-label": `The emulator's ${o.name} at the sliders' place, and the data` });
    const state = { o, x, kept, svg, log: o.log, line: n > 0 && x.length > 1 };
    box.append(svg);
    if (state.line) { const label = tag("label", "", { className: "note" }), check = tag("input", "", { type: "checkbox", checked: o.log });
      check.addEventListener("change", () => { state.log = check.checked; state.range = null; show(); }); label.append(check, " logarithmic"); box.append(label); }
    panels.append(box); return state;
  });
  // Which curve a datum belongs to, and where along it; -1 if that curve is not shown.
  function lies(o, i) {
    let curve = 0; const n = o.dims.length;
    for (let k = 0; k < n - 1; k++) { const xs = o.dims[k][2]; let best = 0;
      xs.forEach((v, j) => { if (Math.abs(v - o.data.at[k][i]) < Math.abs(xs[best] - o.data.at[k][i])) best = j; }); curve = curve * xs.length + best; }
    return [curve, n ? o.data.at[n - 1][i] : 0];
  }
  function ticks(low, high, log) {
    if (log) { const a = Math.ceil(low - 1e-9), b = Math.floor(high + 1e-9), every = Math.max(1, Math.ceil((b - a) / 4)), t = [];
      for (let e = a; e <= b; e += every) t.push(e); if (t.length > 1) return t; return [low, (low + high) / 2, high]; }
    const raw = (high - low) / 4, unit = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((s) => s * unit >= raw) * unit, t = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) t.push(v); return t;
  }
  function paint(s, answer) {
    const { o, x, svg } = s, y = answer[o.name], e = d.error ? answer[o.name + d.error] : null, data = o.data ? o.data.values : [];
    const where = data.map((_, i) => lies(o, i)); let shift = 0;
    if (o.offset && data.length) { // integrated over in the likelihood: here the curve is moved to where the data ask for it
      where.forEach(([c, at], i) => { shift += (data[i] - interpolate(at, x, [...y.slice(c * x.length, (c + 1) * x.length)])) / data.length; }); }
    const up = (v) => (s.log ? Math.log10(Math.max(v, 1e-300)) : v);
    const all = [...data.filter((v) => !s.log || v > 0).map(up)];
    for (const c of s.kept) for (let i = 0; i < x.length; i++) { const v = y[c * x.length + i] + shift; if (Number.isFinite(v) && (!s.log || v > 0)) all.push(up(v)); }
    if (!data.length && e) { // with no data to keep the axis, it shows the error as far as the curve itself goes, again to either side
      const span = Math.max(...all) - Math.min(...all); const low0 = Math.min(...all) - span, high0 = Math.max(...all) + span;
      for (const c of s.kept) for (let i = 0; i < x.length; i++) for (const n of [-2, 2]) { const v = y[c * x.length + i] + n * e[c * x.length + i];
        if (Number.isFinite(v) && (!s.log || v > 0)) all.push(Math.max(low0, Math.min(high0, up(v)))); } }
    let low = Math.min(...all), high = Math.max(...all); if (!(high > low)) { low -= 0.5; high += 0.5; }
    const pad = 0.06 * (high - low); low -= pad; high += pad;
    if (s.range) { low = Math.min(low, s.range[0]); high = Math.max(high, s.range[1]); } else if (data.length && Number.isFinite(low + high)) s.range = [low, high];
    const L = 52, R = 350, T = 24, B = 188, far = o.along && x[0] > 0, ac = (v) => (far ? Math.log10(Math.max(v, 1e-300)) : v);
    const x0 = ac(x[0]), x1 = ac(x[x.length - 1]);
    const px = (v) => (s.line ? L + 6 + (R - L - 12) * (ac(v) - x0) / (x1 - x0) : (L + R) / 2);
    const py = (v) => Math.max(T - 40, Math.min(B + 40, B - (B - T) * (up(v) - low) / (high - low)));
    svg.replaceChildren(draw("title", {}, `${o.name}, emulated`), draw("text", { x: L, y: 12, "font-weight": 600 }, withUnit(o.name, o.unit)));
    if (shift) svg.append(draw("text", { x: L, y: B + 40, class: "small" }, "at the offset that the data ask for"));
    const clip = draw("clipPath", { id: `clip-${d.outputs.indexOf(o)}` }); clip.append(draw("rect", { x: L, y: T - 2, width: R - L, height: B - T + 4 })); svg.append(clip);
    for (const t of ticks(low, high, s.log)) { const at = B - (B - T) * (t - low) / (high - low);
      svg.append(draw("line", { x1: L, x2: R, y1: at, y2: at, class: "grid" }), draw("text", { x: L - 5, y: at + 3, "text-anchor": "end" }, s.log ? digits(10 ** t) : digits(t))); }
    if (s.line) for (const t of ticks(Math.min(x0, x1), Math.max(x0, x1), far)) { const v = far ? 10 ** t : t;
      svg.append(draw("text", { x: px(v), y: B + 14, "text-anchor": px(v) > R - 20 ? "end" : "middle" }, digits(v))); }
    if (s.line) svg.append(draw("text", { x: (L + R) / 2, y: B + 30, "text-anchor": "middle" }, withUnit(o.dims[o.dims.length - 1][0], o.dims[o.dims.length - 1][1])));
    const g = draw("g", { "clip-path": `url(#clip-${d.outputs.indexOf(o)})` }); svg.append(g);
    s.kept.forEach((c, k) => { const colour = `var(${COLOURS[k % COLOURS.length]})`, from = c * x.length;
      const at = (i, n) => `${px(x[i]).toFixed(1)},${py(y[from + i] + shift + n * (e ? e[from + i] : 0)).toFixed(1)}`, all = x.map((_, i) => i);
      if (!s.line) { const v = y[from] + shift, w = e ? e[from] : 0;
        g.append(draw("line", { x1: px(0), x2: px(0), y1: py(v - 2 * w), y2: py(v + 2 * w), stroke: colour, "stroke-width": 8, opacity: 0.35 }), draw("circle", { cx: px(0), cy: py(v), r: 4, fill: colour })); return; }
      if (e) g.append(draw("polygon", { points: [...all.map((i) => at(i, 2)), ...all.slice().reverse().map((i) => at(i, -2))].join(" "), fill: colour, opacity: 0.3 }));
      g.append(draw("polyline", { points: all.map((i) => at(i, 0)).join(" "), fill: "none", stroke: colour, "stroke-width": 1.8 }));
    });
    where.forEach(([c, at], i) => { const k = s.kept.indexOf(c); if (k >= 0) g.append(draw("circle", { cx: px(at), cy: py(data[i]), r: 2.6,
      fill: s.kept.length > 1 ? `var(${COLOURS[k % COLOURS.length]})` : "currentColor", stroke: "var(--paper)", "stroke-width": 0.6 })); });
    const rest = o.dims.slice(0, -1); if (rest.length) svg.append(draw("text", { x: L, y: B + 40, class: "small" },
      `${s.kept.length} of ${o.series} along ${rest.map((r) => withUnit(r[0], r[1])).join(", ")}`));
  }
  // How far each parameter alone moves the outputs, the others staying where they are: over the posterior's 90 %, or the prior's.
  const span = (values) => { const v = values.filter(Number.isFinite); return Math.max(...v) - Math.min(...v); };
  function influence(p, k) {
    const kept = places[k], n = p.steps.length, ends = p.posterior ? [p.posterior[0], p.posterior[2]] : [p.steps[Math.round(0.05 * n)], p.steps[Math.round(0.95 * n) - 1]];
    const [low, high] = ends.map((at) => { places[k] = at; return run(point()); });
    places[k] = kept; let most = 0, name = "";
    d.outputs.forEach((o) => {
      const moved = [...high[o.name]].map((v, i) => (v - low[o.name][i]) ** 2), size = span([...(o.data ? o.data.values : low[o.name]), ...(o.data ? [] : high[o.name])]);
      const share = Math.sqrt(moved.reduce((a, b) => a + b, 0) / moved.length) / size;
      if (share > most && Number.isFinite(share)) { most = share; name = o.name; }
    });
    return name && `its ${p.posterior ? "posterior" : "prior"}'s 90 % moves ${name} by ${digits(+(100 * most).toPrecision(2))} % of the ${d.outputs.some((o) => o.name === name && o.data) ? "data's range" : "range"}`;
  }
  let waiting = 0;
  function influences() {
    clearTimeout(waiting);
    waiting = setTimeout(() => { d.parameters.forEach((p, k) => { rows[k].effect.textContent = influence(p, k); }); play.dataset.influences = "there"; }, 150);
  }
  function show() {
    const answer = run(point());
    rows.forEach((r, k) => { r.input.value = places[k]; r.value.textContent = digits(interpolate(places[k], d.parameters[k].steps, d.parameters[k].values)); });
    inside.textContent = answer.inside && !answer.inside[0] ? " Outside of what the emulator was trained on: not to be relied on." : "";
    shown.forEach((s) => paint(s, answer));
    play.dataset.evaluated = (+play.dataset.evaluated || 0) + 1;
    influences();
  }
  show();
})();
