// band: the model's layers from left to right, coloured by the node that holds them: the route on top, replicas
// below, gaps hatched; and the steps that run along them.
import { el } from "./dom.js";
import { layers } from "./words.js";

const TICKS_MAX = 9;
const DOTS_MAX = 12; // a second
const TRAVEL_MS = 1100;
const COLOURS = 10;

export function colour(index) {
  return `c${index % COLOURS}`;
}

// ---- what lies where ----

// { first, last, name, colour, kind: "serving" | "standing" | "loading" | "gap" } in lanes; the first is the route's.
export function lanesOf(status) {
  const { members, route, model } = status;
  const onRoute = new Set(route?.stages.map((s) => s.fingerprint));
  const spans = members.map((m, i) => ({
    first: m.layer_first, last: m.layer_last, name: m.name, colour: colour(i), onRoute: onRoute.has(m.fingerprint),
    kind: m.state === "loading" ? "loading" : onRoute.has(m.fingerprint) ? "serving" : "standing",
  })).filter((s) => typeof s.first === "number" && s.last > s.first);
  spans.sort((a, b) => b.onRoute - a.onRoute || a.first - b.first);
  const lanes = [[]];
  for (const s of spans) {
    let lane = lanes.find((l) => l.every((o) => o.last <= s.first || s.last <= o.first));
    if (lane === undefined) lanes.push(lane = []);
    lane.push(s);
  }
  lanes[0].push(...gapsOf(spans, model.layers));
  return lanes;
}

export function gapsOf(spans, n) {
  const gaps = [];
  let at = 0;
  for (const s of [...spans].sort((a, b) => a.first - b.first)) {
    if (s.first > at) gaps.push({ first: at, last: s.first, kind: "gap" });
    at = Math.max(at, s.last);
  }
  if (at < n) gaps.push({ first: at, last: n, kind: "gap" });
  return gaps;
}

function sentence(lanes) {
  const said = lanes.flat().sort((a, b) => a.first - b.first).map((s) =>
    s.kind === "gap" ? `${layers(s.first, s.last)}: nobody` : `${layers(s.first, s.last)}: ${s.name}, ${s.kind}`);
  return `Where the layers are. ${said.join("; ")}.`;
}

// ---- elements ----

// Column 1 is the embedding, the last one the head.
function segment(s, lane, n) {
  const what = s.kind === "gap" ? "nobody" : s.name;
  const numbers = s.last - s.first === 1 ? s.first : `${s.first}–${s.last - 1}`;
  const title = `${what}: ${layers(s.first, s.last)}${s.kind === "gap" ? "" : `, ${s.kind}`}`;
  const e = el(`div.seg.${s.kind}`, { title }, el("span.seg-name", {}, what),
    el("span.seg-layers", {}, numbers));
  if (s.colour) e.classList.add(s.colour);
  e.classList.toggle("below", lane > 0);
  e.style.gridRow = String(lane + 1);
  e.style.gridColumn = `${s.first === 0 ? 1 : s.first + 2} / ${s.last === n ? n + 3 : s.last + 2}`;
  return e;
}

function ticks(n, row) {
  const every = Math.max(1, Math.ceil(n / TICKS_MAX / 5) * (n > TICKS_MAX ? 5 : 1));
  const out = [el("span.tick", { title: "Embedding" }, "emb"), el("span.tick.end", { title: "Output head" }, "head")];
  out[1].style.gridColumn = String(n + 2);
  for (let i = 0; i < n; i += every) {
    const t = el("span.tick", {}, String(i));
    t.style.gridColumn = String(i + 2);
    out.push(t);
  }
  for (const t of out) t.style.gridRow = String(row);
  return out;
}

export class Band {
  constructor() {
    this.grid = el("div.band");
    this.track = el("div.track", { "aria-hidden": "true" });
    this.element = el("div.band-box", { role: "img" }, this.track, this.grid);
    this.drawn = "";
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
  }

  draw(status) {
    const lanes = lanesOf(status);
    const n = status.model.layers;
    const signature = JSON.stringify([lanes, n]);
    if (signature === this.drawn) return;
    this.drawn = signature;
    this.grid.style.gridTemplateColumns = `2.4rem repeat(${n}, minmax(0, 1fr)) 2.4rem`;
    this.grid.replaceChildren(...lanes.flatMap((l, i) => l.map((s) => segment(s, i, n))),
      ...ticks(n, lanes.length + 1));
    this.element.setAttribute("aria-label", sentence(lanes));
  }

  // Lets the steps of the last interval run along the stages, each stage taking its share of the time. How many
  // steps a dot stands for.
  run(steps, interval, stages) {
    if (steps === 0 || this.still.matches || this.track.clientWidth === 0) return 1;
    const dots = Math.min(steps, Math.max(1, Math.round(DOTS_MAX * interval / 1000)));
    for (let i = 0; i < dots; i++) this.dot(i * interval / dots, frames(stages));
    return Math.ceil(steps / dots);
  }

  dot(delay, keyframes) {
    const d = el("i.dot");
    this.track.append(d);
    d.animate(keyframes, { duration: TRAVEL_MS, delay, fill: "both" }).finished.finally(() => d.remove());
  }
}

// Where a dot is when: through each stage's layers in its part of the whole time.
function frames(stages) {
  const n = stages.at(-1)?.layer_last ?? 1;
  const times = stages.map((s) => Math.max(s.compute_us + s.link_us, 1));
  const whole = times.reduce((a, b) => a + b, 0);
  const out = [{ left: "0%", opacity: 0, offset: 0 }, { left: "1%", opacity: 1, offset: 0.01 }];
  let at = 0;
  stages.slice(0, -1).forEach((s, i) => {
    at += times[i];
    out.push({ left: `${100 * s.layer_last / n}%`, opacity: 1, offset: Math.min(0.98, Math.max(0.02, at / whole)) });
  });
  out.push({ left: "100%", opacity: 1, offset: 0.99 }, { left: "100%", opacity: 0, offset: 1 });
  return out;
}
