// SPDX-License-Identifier: Apache-2.0
// Draws the panels of a report, and lets people move in them. Everything else on the page stands without it.
"use strict";
(() => {
  const root = document.documentElement;
  const troubles = [];
  const trouble = (what) => { troubles.push(String(what)); root.dataset.errors = troubles.join("\n"); };
  addEventListener("error", (event) => trouble(event.message));
  addEventListener("unhandledrejection", (event) => trouble(event.reason));
  addEventListener("securitypolicyviolation", (event) => trouble(`${event.violatedDirective}: ${event.blockedURI}`));
  const complain = console.error;
  console.error = (...words) => { trouble(words.join(" ")); complain(...words); };

  const AXIS = 62, HEIGHT = 190, ROW = 19, FONT = "12px system-ui, sans-serif";
  const MOST_TINTED = 400;  // windows in view; of more, zooming in shows them
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  let data, start, end, view, hatch;
  const plots = [];

  // ---- what the page carries: times as whole multiples of a unit since the record's begin, values as 32-bit floats

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;

  // Seconds and watts of a curve, with a null where a gap begins: over it no line may go.
  function points(curve) {
    const at = new Uint32Array(bytes(curve.t)), watts = new Float32Array(bytes(curve.w));
    const broken = new Uint32Array(bytes(curve.broken)), unit = curve.unit_ns / 1e9;
    const x = [], y = [];
    for (let i = 0, gap = 0; i < at.length; i++) {
      if (broken[gap] === i) {
        gap++;
        if (i) { x.push((at[i - 1] + 0.5) * unit); y.push(null); }
      }
      x.push(at[i] * unit);
      y.push(watts[i]);
    }
    return [x, y];
  }

  // ---- words

  const digits = (span) => Math.min(6, Math.max(0, Math.ceil(-Math.log10(span / 1500))));
  const seconds = (value) => value.toFixed(digits(view[1] - view[0]));
  function clock(value) {
    if (data.start_unix_ms === null) return "";
    const at = new Date(data.start_unix_ms + 1000 * value);
    return `  ${at.toISOString().slice(0, 23).replace("T", " ")} UTC`;
  }

  // ---- shading

  function stripes(ctx) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour("missing");
    pen.lineWidth = 1.2;
    pen.beginPath();
    for (const x of [-3, 3]) { pen.moveTo(x, 6); pen.lineTo(x + 6, 0); }
    pen.stroke();
    return ctx.createPattern(tile, "repeat");
  }

  const inView = (one) => one.end >= view[0] && one.start <= view[1];

  function shade(plot, panel) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio;
    const place = (value) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(value, "x", true)));
    const leaves = data.windows.filter((one) => one.leaf && inView(one));
    ctx.save();
    if (leaves.length <= MOST_TINTED) {
      for (const one of leaves) {
        const left = place(one.start), width = place(one.end) - left;
        ctx.fillStyle = colour("tint");
        ctx.fillRect(left, bbox.top, width, bbox.height);
        ctx.fillStyle = colour("line");
        ctx.fillRect(left, bbox.top, ratio, bbox.height);
        ctx.fillRect(left + width, bbox.top, ratio, bbox.height);
        const verdict = panel.verdicts[data.windows.indexOf(one)];
        if (data.verdicts[verdict]) {
          ctx.fillStyle = colour(data.verdicts[verdict]);
          ctx.fillRect(left, bbox.top, Math.max(width - ratio, 1), 3 * ratio);
        }
      }
    }
    for (const one of [...panel.missing, ...data.asleep].filter(inView)) {
      const left = place(one.start);
      ctx.fillStyle = hatch || (hatch = stripes(ctx));
      ctx.fillRect(left, bbox.top, Math.max(place(one.end) - left, 2 * ratio), bbox.height);
    }
    ctx.restore();
  }

  // The windows by name, a row a level of nesting, above all panels and on their axis.
  function drawLane() {
    const box = byId("lane"), canvas = box.firstElementChild;
    const width = box.clientWidth, ratio = devicePixelRatio, height = ROW * data.levels + 4;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = FONT;
    pen.textBaseline = "middle";
    const room = width - AXIS - 12;
    const place = (value) => AXIS + room * Math.min(1, Math.max(0, (value - view[0]) / (view[1] - view[0])));
    for (const one of data.windows.filter(inView)) {
      const left = place(one.start), wide = Math.max(place(one.end) - left, 1), top = 1 + ROW * one.level;
      pen.fillStyle = colour("line");
      pen.fillRect(left, top, Math.max(wide - 1, 1), ROW - 3);
      if (wide > 26) {
        pen.save();
        pen.beginPath();
        pen.rect(left, top, wide - 4, ROW);
        pen.clip();
        pen.fillStyle = colour("ink");
        pen.fillText(one.name, left + 5, top + (ROW - 2) / 2);
        pen.restore();
      }
    }
  }

  // ---- moving: one view for all panels

  function show(from, to) {
    const most = end - start, span = Math.min(most, Math.max(to - from, 1e-5 * most, 1e-6));
    from = Math.min(Math.max(from, start), end - span);
    view = [from, from + span];
    root.dataset.view = view.map((one) => one.toFixed(6)).join(" ");
    for (const { plot } of plots) plot.setScale("x", { min: view[0], max: view[1] });
    drawLane();
    tell();
  }
  const zoom = (factor) => {
    const middle = (view[0] + view[1]) / 2, half = (view[1] - view[0]) / 2 * factor;
    show(middle - half, middle + half);
  };
  const pan = (share) => { const by = share * (view[1] - view[0]); show(view[0] + by, view[1] + by); };
  const all = () => show(start, end);

  function tell() {
    const widest = Math.max(0, ...plots.map(({ panel }) => Math.max(0, ...panel.curves.map((one) => one.width_s))));
    const words = [];
    if (widest && view[1] - view[0] < 300 * widest) {
      words.push(`Each ${widest.toPrecision(2)} s show their first, lowest, highest and last reading; for every reading: ` +
        `powersample report ${data.file} --start ${seconds(view[0])} --end ${seconds(view[1])} --html OUT.html`);
    }
    const leaves = data.windows.filter((one) => one.leaf && inView(one)).length;
    if (leaves > MOST_TINTED) words.push(`${leaves} windows in view: they are shaded when you zoom in.`);
    byId("hint").textContent = words.join(" ");
  }

  // ---- panels

  function options(panel, box) {
    const soft = () => colour("soft"), grid = { stroke: () => colour("line"), width: 1 };
    const axis = { stroke: soft, grid, ticks: grid, font: FONT };
    const colours = ["blue", "orange", "green"];
    const lines = panel.curves.map((one) => {
      const name = one.truth ? "truth" : colours.shift();
      return {
        label: one.label,
        stroke: () => colour(name),
        width: one.truth ? 2 : name === "blue" ? 1.6 : 1.1,
        paths: uPlot.paths.stepped({ align: 1 }),
        points: { show: one.length < 2 },
        value: (_, watts) => (watts == null ? "–" : `${watts.toPrecision(4)} W`),
      };
    });
    return {
      width: box.clientWidth, height: HEIGHT, padding: [8, 12, 0, 0],
      scales: {
        x: { time: false },
        y: { range: (_, low, high) => (low == null ? [0, 1] : [Math.min(0, 1.05 * low), high > 0 ? 1.1 * high : 1]) },
      },
      axes: [
        { ...axis, size: 30, values: (_, marks) => marks.map((one) => `${+one.toPrecision(12)} s`) },
        { ...axis, size: AXIS, values: (_, marks) => marks.map((one) => `${+one.toPrecision(6)} W`) },
      ],
      series: [
        { label: "at", value: (_, at) => (at == null ? "–" : `${seconds(at)} s${clock(at)}`) },
        ...lines,
      ],
      cursor: {
        sync: { key: "power", setSeries: false, scales: ["x", null],
          filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => { all(); } },
        points: { size: 6 },
      },
      hooks: {
        drawClear: [(plot) => shade(plot, panel)],
        setSelect: [(plot) => {
          if (plot.select.width > 3) {
            show(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x"));
          }
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
      },
    };
  }

  function draw(figure, panel) {
    const box = figure.querySelector(".plot");
    panel.curves.sort((one, other) => other.truth - one.truth);  // the truth lies below the readings
    for (const one of panel.curves) one.points ||= points(one);
    for (const one of panel.curves) one.length = one.points[0].length;
    figure.classList.add("drawn");
    const plot = new uPlot(options(panel, box), uPlot.join(panel.curves.map((one) => one.points)), box);
    plots.push({ plot, panel, box });
    plot.setScale("x", { min: view[0], max: view[1] });
    box.tabIndex = 0;
    box.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25), "+": () => zoom(0.5), "-": () => zoom(2), 0: all };
      if (move[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); move[event.key](); }
    });
    box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;  // the page itself scrolls
      event.preventDefault();
      const by = event.deltaY || event.deltaX;
      if (event.shiftKey) pan(Math.sign(by) * 0.1); else zoom(by > 0 ? 1.25 : 0.8);
    }, { passive: false });
    root.dataset.panels = plots.length;
  }

  function repaint() {
    hatch = null;
    for (const { plot } of plots) plot.redraw(false, true);
    if (plots.length) drawLane();
  }

  function themes() {
    const button = byId("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
    const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
    const name = () => { button.textContent = now() === "dark" ? "light page" : "dark page"; };
    button.hidden = false;
    name();
    button.addEventListener("click", () => { root.dataset.theme = now() === "dark" ? "light" : "dark"; name(); repaint(); });
    dark.addEventListener("change", () => { name(); repaint(); });
    let before;
    addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; repaint(); });
    addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; repaint(); });
  }

  function tools() {
    const actions = { in: () => zoom(0.5), out: () => zoom(2), left: () => pan(-0.5), right: () => pan(0.5), all };
    for (const button of document.querySelectorAll(".tools button")) {
      button.addEventListener("click", actions[button.dataset.move]);
    }
    const select = byId("window");
    data.windows.slice(0, 500).forEach((one, i) => select.add(new Option(one.name, i)));
    select.hidden = !data.windows.length;
    select.addEventListener("change", () => {
      const one = data.windows[select.value];
      if (one) show(one.start - 0.04 * (one.end - one.start), one.end + 0.04 * (one.end - one.start)); else all();
    });
    document.querySelector(".tools").hidden = false;
  }

  addEventListener("DOMContentLoaded", () => {
    themes();
    data = JSON.parse(byId("data").textContent);
    [start, end] = view = data.extent;
    if (!data.panels.length) return;
    root.dataset.panels = 0;
    tools();
    data.panels.forEach((panel, i) => {
      const figure = byId(`panel-${i}`);
      if (figure.open) draw(figure, panel);
      else figure.addEventListener("toggle", () => { draw(figure, panel); tell(); }, { once: true });
    });
    drawLane();
    tell();
    setTimeout(() => { root.dataset.drawnMs = Math.round(performance.now()); });  // since the browser was asked for it
    new ResizeObserver(() => {
      for (const { plot, box } of plots) {
        if (box.clientWidth && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height: HEIGHT });
      }
      drawLane();
    }).observe(byId("lane"));
  });
})();
