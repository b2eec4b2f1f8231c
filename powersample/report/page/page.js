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

  const AXIS = 62, RIGHT = 24, ROW = 19, FONT = "12px system-ui, sans-serif";
  const BAND_ROOM = 1.6;  // of the highest reading in view: of intervals that reach beyond it the rest is cut
  const LEAST_WIDE = 6;  // pixels of a window that is shown
  const PAPER = 690;  // pixels of a printed page's width
  const SECONDS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10].flatMap((one) => [one, 2 * one, 5 * one]).concat(60, 120);
  const TICKS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  let data, start, end, view, hatch, height, seen;
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

  const watts = (value) => (value == null ? "–" : `${value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(4)} W`);
  // Ticks in the unit that their distance is whole in.
  function tick(value, step) {
    const [size, unit] = step >= 3600 ? [3600, "h"] : step >= 60 ? [60, "min"] : [1, "s"];
    return `${+(value / size).toPrecision(12)} ${unit}`;
  }
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

  // The windows that are wide enough to be seen, of them those that hold no other, and how many are too short.
  function visible() {
    if (seen) return seen;
    const per = (byId("lane").clientWidth - AXIS - RIGHT) / (view[1] - view[0]);
    const all = data.windows.filter(inView), wide = all.filter((one) => (one.end - one.start) * per >= LEAST_WIDE);
    const holds = (one, other) => other && other.start < one.end && other.end <= one.end;
    return seen = { all, leaves: wide.filter((one, i) => !holds(one, wide[i + 1])), short: all.length - wide.length };
  }

  const placeIn = ({ bbox, valToPos }) =>
    (value) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, valToPos(value, "x", true)));

  // What lies under the curves: windows, the intervals of their mean powers, spans that nobody read.
  function shade(plot, panel) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio, place = placeIn(plot);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const one of visible().leaves) {
      const left = place(one.start), width = place(one.end) - left, verdict = data.verdicts[panel.verdicts[one.i]];
      ctx.fillStyle = colour("tint");
      ctx.fillRect(left, bbox.top, width, bbox.height);
      ctx.fillStyle = colour("line");
      ctx.fillRect(left, bbox.top, ratio, bbox.height);
      ctx.fillRect(left + width, bbox.top, ratio, bbox.height);
      const [low, , high] = panel.means(one.mean);
      if (low <= high) {
        const top = plot.valToPos(high, "y", true);
        ctx.fillStyle = colour("band");
        ctx.fillRect(left, top, width, Math.max(plot.valToPos(low, "y", true) - top, ratio));
      }
      if (verdict) {
        ctx.fillStyle = colour(verdict);
        ctx.fillRect(left, bbox.top, Math.max(width - ratio, 1), 3 * ratio);
      }
    }
    for (const one of [...panel.missing, ...data.asleep].filter(inView)) {
      const left = place(one.start);
      ctx.fillStyle = hatch || (hatch = stripes(ctx));
      ctx.fillRect(left, bbox.top, Math.max(place(one.end) - left, 2 * ratio), bbox.height);
    }
    ctx.restore();
  }

  // What lies over them: each window's mean power, broken where its verdict is poor or worse.
  function drawMeans(plot, panel) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio, place = placeIn(plot);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.strokeStyle = colour("ink");
    ctx.lineWidth = 1.4 * ratio;
    for (const one of visible().leaves) {
      const mean = panel.means(one.mean)[1], verdict = data.verdicts[panel.verdicts[one.i]];
      if (!(mean >= 0)) continue;
      const y = plot.valToPos(mean, "y", true);
      ctx.setLineDash(verdict === "good" || verdict === "fair" ? [] : (verdict === "poor" ? [6, 3] : [2, 3]).map((n) => n * ratio));
      ctx.beginPath();
      ctx.moveTo(place(one.start), y);
      ctx.lineTo(place(one.end), y);
      ctx.stroke();
    }
    ctx.restore();
  }

  // The windows by name, a row a level of nesting, above all panels and on their axis.
  function drawLane(paper) {
    const box = byId("lane"), canvas = box.querySelector("canvas");
    const width = paper || box.clientWidth, ratio = devicePixelRatio, height = ROW * data.levels + 4;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = FONT;
    pen.textBaseline = "middle";
    const room = width - AXIS - RIGHT;
    const place = (value) => AXIS + room * Math.min(1, Math.max(0, (value - view[0]) / (view[1] - view[0])));
    for (const one of visible().all) {
      const left = place(one.start), wide = Math.max(place(one.end) - left, 1), top = 1 + ROW * one.level;
      pen.fillStyle = colour("line");
      pen.fillRect(left, top, Math.max(wide - 1, 1), ROW - 3);
      if (wide > 26) {
        pen.fillStyle = colour("ink");
        pen.fillText(fitted(pen, one.name, wide - 10), left + 5, top + (ROW - 2) / 2);
      }
    }
  }

  // A name in so many pixels: what does not fit is left out, its end last, for that is what tells steps apart.
  function fitted(pen, name, room) {
    if (pen.measureText(name).width <= room) return name;
    const most = [...name];
    for (let count = most.length - 1; count > 1; count--) {
      const tail = Math.min(4, count >> 1), words = `${most.slice(0, count - tail).join("")}…${most.slice(-tail).join("")}`;
      if (pen.measureText(words).width <= room) return words;
    }
    return "";
  }

  // The bars answer a pointer: their full name, and a click shows that window alone.
  function bars() {
    const canvas = byId("lane").querySelector("canvas");
    const under = (event) => {
      const box = canvas.getBoundingClientRect(), room = box.width - AXIS - RIGHT;
      const at = view[0] + (event.clientX - box.left - AXIS) / room * (view[1] - view[0]);
      const level = Math.floor((event.clientY - box.top - 1) / ROW);
      return visible().all.find((one) => one.level === level && one.start <= at && at <= one.end);
    };
    canvas.addEventListener("mousemove", (event) => {
      const one = under(event);
      canvas.title = one ? `${one.name}: ${+(one.end - one.start).toPrecision(4)} s${one.told ? `, ${one.told}` : ""}` : "";
      canvas.style.cursor = one ? "zoom-in" : "";
    });
    canvas.addEventListener("click", (event) => { const one = under(event); if (one) closeUp(one); });
  }

  // ---- moving: one view for all panels

  function show(from, to) {
    const most = end - start, span = Math.min(most, Math.max(to - from, 1e-5 * most, 1e-6));
    from = Math.min(Math.max(from, start), end - span);
    view = [from, from + span];
    seen = null;
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
  const closeUp = (one) => show(one.start - 0.04 * (one.end - one.start), one.end + 0.04 * (one.end - one.start));

  function tell() {
    const widest = Math.max(0, ...plots.map(({ panel }) => Math.max(0, ...panel.curves.map((one) => one.width_s))));
    const words = [];
    if (widest && view[1] - view[0] < 300 * widest) {
      words.push(`Each ${widest.toPrecision(2)} s show their first, lowest, highest and last reading; for every reading: ` +
        `powersample report ${data.file} --start ${seconds(view[0])} --end ${seconds(view[1])} --html OUT.html`);
    }
    const { short } = visible();
    if (short) words.push(`${short.toLocaleString("en")} ${short > 1 ? "windows are" : "window is"} too short to be seen here: zoom in.`);
    byId("hint").textContent = words.join(" ");
  }

  // What the curves say where the pointer is: the value that stands there, not the nearest.
  function read(plot, panel, figure) {
    const at = plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null;
    for (const one of panel.curves) {
      const [x, y] = one.points;
      let low = 0, high = x.length;
      while (low < high) { const middle = (low + high) >> 1; if (x[middle] <= at) low = middle + 1; else high = middle; }
      figure.querySelector(`[data-curve="${one.k}"]`).textContent = at === null ? "" : watts(low ? y[low - 1] : null);
    }
    if (at !== null) byId("now").textContent = `${seconds(at)} s${clock(at)}`;
    else if (plots.every((one) => one.plot.cursor.left < 0)) byId("now").textContent = "";
  }

  // ---- panels

  // The upper end of an axis: above the readings, and above intervals that do not reach far beyond them.
  function top(panel, high) {
    const ends = visible().leaves.map((one) => panel.means(one.mean)[2]).filter((end) => end > high);
    return high > 0 ? Math.max(1.1 * high, Math.min(1.05 * Math.max(0, ...ends), BAND_ROOM * high)) : 1;
  }

  function options(panel, box, figure) {
    const soft = () => colour("soft"), grid = { stroke: () => colour("line"), width: 1 };
    const axis = { stroke: soft, grid, ticks: grid, font: FONT };
    const colours = ["blue", "orange", "green"];
    const lines = panel.curves.map((one) => {
      const name = one.truth ? "truth" : colours[one.k];
      return {
        label: one.label,
        stroke: () => colour(name),
        width: one.truth ? 2 : name === "blue" ? 1.6 : 1.1,
        paths: uPlot.paths.stepped({ align: 1 }),
        points: { show: one.length < 2 },
      };
    });
    return {
      width: box.clientWidth, height, padding: [8, RIGHT, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false },
        y: { range: (_, low, high) => (low == null ? [0, 1] : [Math.min(0, 1.05 * low), top(panel, high)]) },
      },
      axes: [
        { ...axis, size: 26, space: 70, incrs: (_, __, from, to) => (to - from > 600 ? TICKS : SECONDS),
          values: (_, marks, __, ___, step) => marks.map((one) => tick(one, step)) },
        { ...axis, size: AXIS, space: 28, values: (_, marks) => marks.map((one) => `${(+one.toPrecision(6)).toLocaleString("en")} W`) },
      ],
      series: [{}, ...lines],
      cursor: {
        sync: { key: "power", setSeries: false, scales: ["x", null],
          filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => { all(); } },
        points: { size: 6 },
      },
      hooks: {
        drawClear: [(plot) => shade(plot, panel)],
        draw: [(plot) => drawMeans(plot, panel)],
        setCursor: [(plot) => read(plot, panel, figure)],
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
    panel.curves.forEach((one, k) => { one.k = k; });
    panel.curves.sort((one, other) => other.truth - one.truth || other.k - one.k);  // the truth lowest, the surest on top
    for (const one of panel.curves) one.points ||= points(one);
    const means = new Float32Array(bytes(panel.means));
    panel.means = (rank) => means.subarray(3 * rank, 3 * rank + 3);
    for (const one of panel.curves) one.length = one.points[0].length;
    figure.classList.add("drawn");
    const plot = new uPlot(options(panel, box, figure), uPlot.join(panel.curves.map((one) => one.points)), box);
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

  function repaint(width) {
    hatch = seen = null;
    for (const { plot } of plots) plot.redraw(false, true);
    if (plots.length) drawLane(width);
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
    const sized = (width) => { for (const { plot, box } of plots) plot.setSize({ width: width || box.clientWidth, height }); };
    addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; sized(PAPER); repaint(PAPER); });
    addEventListener("afterprint", () => {
      if (before) root.dataset.theme = before; else delete root.dataset.theme;
      sized();
      repaint();
    });
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
      if (one) closeUp(one); else all();
    });
    for (const one of document.querySelectorAll(".tools, #lane, #keys")) one.hidden = false;
    bars();
  }

  // A table that is wider than its place can be moved by the keyboard, too.
  function scrollers() {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; else box.removeAttribute("tabindex");
    }
  }

  addEventListener("DOMContentLoaded", () => {
    themes();
    scrollers();
    addEventListener("resize", scrollers);
    data = JSON.parse(byId("data").textContent);
    [start, end] = view = data.extent;
    height = data.panels.length > 3 ? 140 : 190;
    data.windows.forEach((one, i) => { one.i = i; });
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
        if (box.clientWidth && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height });
      }
      seen = null;
      drawLane();
    }).observe(byId("lane"));
  });
})();
