// Histograms and rankings as SVG and lists, points on a canvas. Marks are searches one click away.

import { button, count, make, score, spaced, toast } from "./dom.js";
import { ask, points } from "./api.js";
import { go, ranged, state, termOf, toggled } from "./state.js";
import { spoken } from "./tile.js";

const short = (value) => (Math.abs(value) < 0.0005 ? "0" : Math.abs(value) >= 100 ? count(Math.round(value)) : Number(value.toPrecision(3)).toString());

/** Bars over equal bins; ``at`` draws a line there, ``search`` makes each bar a range to search for. */
export function histogram({ name, low, high, counts }, { at = null, search = false, wide = false, below = false } = {}) {
  const left = 4, right = wide ? 776 : 376, top = 6, bottom = 120, most = Math.max(1, ...counts), step = (high - low) / counts.length || 1;
  const across = (value) => left + ((value - low) / (high - low || 1)) * (right - left);
  const svg = make("svg", { class: "chart", viewBox: `0 0 ${right + 4} 142`, role: "img", "aria-label": `Histogram of ${name}` });
  counts.forEach((n, bin) => {
    const height = n ? Math.max(1.5, ((bottom - top) * n) / most) : 0, from = low + bin * step;
    const rect = make("rect", { class: at === null || (from + step / 2 >= at) !== below ? "bin" : "bin under", x: across(from) + 0.5, y: bottom - height, width: Math.max(0.5, (right - left) / counts.length - 1), height, rx: 1 });
    svg.append(rect);
    if (!search || !n) return;
    svg.append(make("rect", { class: "hover pick", x: across(from), y: top, width: (right - left) / counts.length, height: bottom - top,
      click: () => go({ view: "records", q: ranged(state.q, name, Number(from.toPrecision(6)), Number((from + step).toPrecision(6))), key: "" }) }, make("title", {}, `${short(from)} to ${short(from + step)}: ${count(n)}`)));
  });
  svg.append(make("line", { class: "rule", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (at !== null && at >= low && at <= high) svg.append(make("line", { class: "threshold", x1: across(at), x2: across(at), y1: top, y2: bottom }));
  [[low, "start"], [(low + high) / 2, "middle"], [high, "end"]].forEach(([value, anchor]) => svg.append(make("text", { class: "tick", x: across(value), y: bottom + 15, "text-anchor": anchor }, short(value))));
  return svg;
}

/** The most frequent values, each a search. */
export function bars({ name, values }) {
  const most = Math.max(1, ...values.map(([, n]) => n));
  return make("ol", { class: "ranking" }, values.map(([value, n]) => make("li", {},
    button(value === null ? "none" : spaced(value) || "(empty)", () => go({ view: "records", q: toggled(state.q, termOf(name, value)), key: "" }), { class: "name", dir: "auto" }),
    make("svg", { class: "bar", "aria-hidden": "true", focusable: "false" }, make("rect", { class: "plain", width: `${(100 * n) / most}%`, height: "100%" })),
    make("span", { class: "count" }, count(n)))));
}

/** Points on a canvas: hover names one, a click opens it, a drag over an area searches for what is in it. */
export async function plot(parameters, { labels, ranges = false, tall = false }) {
  const data = await points(parameters);
  const canvas = make("canvas", { class: tall ? "points tall" : "points", role: "img", tabindex: "0", "aria-label": data.n ? `${count(data.n)} points${labels[0] ? `: ${labels[0]} against ${labels[1]}` : ""}` : "no points" });
  const tip = make("p", { class: "tip", hidden: true });
  const box = make("div", { class: "plot" }, canvas, tip);
  if (!data.n) return make("p", { class: "note" }, "No record here has both numbers.");
  const view = bounds(data), context = canvas.getContext("2d");
  let frame = 0, drag = null, near = -1;
  const toX = (x) => 40 + ((x - view.x0) / view.dx) * (canvas.clientWidth - 56), toY = (y) => canvas.clientHeight - 28 - ((y - view.y0) / view.dy) * (canvas.clientHeight - 42);
  const fromX = (px) => view.x0 + ((px - 40) / (canvas.clientWidth - 56)) * view.dx, fromY = (py) => view.y0 + ((canvas.clientHeight - 28 - py) / (canvas.clientHeight - 42)) * view.dy;

  function draw() {
    frame = 0;
    const style = getComputedStyle(canvas), ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) { canvas.width = width * ratio; canvas.height = height * ratio; }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const colours = ["--simple", "--bad", "--soft"].map((name) => style.getPropertyValue(name));
    const size = data.n > 20000 ? 1.6 : data.n > 2000 ? 2.4 : 4;
    context.globalAlpha = data.n > 20000 ? 0.35 : data.n > 2000 ? 0.5 : 0.75;
    for (const kind of [1, 2, 0]) {
      context.fillStyle = colours[kind];
      for (let at = 0; at < data.n; at += 1) if (data.kind[at] === kind) context.fillRect(toX(data.x[at]) - size / 2, toY(data.y[at]) - size / 2, size, size);
    }
    context.globalAlpha = 1;
    context.fillStyle = context.strokeStyle = style.getPropertyValue("--soft");
    context.font = `11px ${style.fontFamily}`;
    if (labels[0]) {
      context.textAlign = "center";
      for (const share of [0, 0.25, 0.5, 0.75, 1]) context.fillText(short(view.x0 + share * view.dx), 40 + share * (width - 56), height - 12);
      context.textAlign = "right";
      for (const share of [0, 0.25, 0.5, 0.75, 1]) context.fillText(short(view.y0 + share * view.dy), 36, height - 25 - share * (height - 42));
    }
    if (near >= 0) { context.strokeStyle = style.getPropertyValue("--ink"); context.strokeRect(toX(data.x[near]) - 4, toY(data.y[near]) - 4, 8, 8); }
    if (drag?.x1 !== undefined) { context.strokeStyle = style.getPropertyValue("--ink"); context.strokeRect(drag.x0, drag.y0, drag.x1 - drag.x0, drag.y1 - drag.y0); }
  }
  const redraw = () => { if (!frame) frame = requestAnimationFrame(draw); };
  new ResizeObserver(redraw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  function nearest(px, py) {
    let best = 225, found = -1;
    for (let at = 0; at < data.n; at += 1) {
      const dx = toX(data.x[at]) - px, dy = toY(data.y[at]) - py, far = dx * dx + dy * dy;
      if (far < best) { best = far; found = at; }
    }
    return found;
  }
  let asked = 0;
  async function name(at, px, py) {
    const mine = ++asked, [card] = await ask("cards", { places: data.place[at] });
    if (mine !== asked || !card) return;
    tip.replaceChildren(...(card.picture && !card.veiled ? [make("img", { src: `thumbnail/${card.key}`, alt: "" })] : []), make("span", { dir: "auto" }, spoken(card)), make("span", { class: "soft" }, labels[0] ? `${score(data.x[at])}, ${score(data.y[at])}` : ""));
    tip.hidden = false;
    tip.style.left = `${Math.max(0, Math.min(px + 14, canvas.clientWidth - 240))}px`;
    tip.style.top = `${py + 14}px`;
  }
  canvas.addEventListener("pointerdown", (event) => { drag = { x0: event.offsetX, y0: event.offsetY }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && Math.hypot(event.offsetX - drag.x0, event.offsetY - drag.y0) > 6) { drag.x1 = event.offsetX; drag.y1 = event.offsetY; redraw(); return; }
    const at = nearest(event.offsetX, event.offsetY);
    if (at === near) return;
    near = at; redraw();
    if (at < 0) { asked += 1; tip.hidden = true; } else name(at, event.offsetX, event.offsetY).catch((error) => toast(error.message, true));
  });
  canvas.addEventListener("pointerleave", () => { asked += 1; near = -1; tip.hidden = true; redraw(); });
  canvas.addEventListener("pointerup", async (event) => {
    const area = drag;
    drag = null;
    if (area?.x1 !== undefined && ranges) {
      const [xs, ys] = [[area.x0, area.x1].map(fromX).sort((a, b) => a - b), [area.y0, area.y1].map(fromY).sort((a, b) => a - b)].map((ends) => ends.map((end) => Number(end.toPrecision(5))));
      go({ view: "records", q: ranged(ranged(state.q, parameters.x, ...xs), parameters.y, ...ys), key: "" });
      return;
    }
    const at = nearest(event.offsetX, event.offsetY);
    if (at >= 0) { const [card] = await ask("cards", { places: data.place[at] }); if (card) go({ key: card.key }, true); }
    redraw();
  });
  return box;
}

function bounds({ n, x, y }) {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let at = 0; at < n; at += 1) { x0 = Math.min(x0, x[at]); x1 = Math.max(x1, x[at]); y0 = Math.min(y0, y[at]); y1 = Math.max(y1, y[at]); }
  return { x0, y0, dx: x1 - x0 || 1, dy: y1 - y0 || 1 };
}
