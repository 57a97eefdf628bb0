// nodes: a card for each member of the cluster, and the links between those of the route.
import { colour } from "./band.js";
import { el } from "./dom.js";
import { ago, bytes, count, layers, micros, rate } from "./words.js";

const states = {
  serving: "good", idle: "quiet", connecting: "warn", loading: "warn", resting: "bad", away: "bad",
};

// ---- parts; each gives its element a set() ----

function meter(label) {
  const fill = el("div.fill");
  const words = el("span");
  const bar = el("div.gauge", { role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const box = el("div.meter", {}, el("div.meter-words", {}, el("span", {}, label), words), bar);
  box.set = (part, whole, text) => {
    const percent = whole > 0 ? Math.min(100, 100 * part / whole) : 0;
    box.hidden = !(whole > 0);
    fill.style.width = `${percent}%`;
    fill.classList.toggle("full", percent > 92);
    bar.setAttribute("aria-valuenow", percent.toFixed(0));
    bar.setAttribute("aria-valuetext", text);
    words.textContent = text;
  };
  return box;
}

function figures(names) {
  const values = names.map(() => el("dd"));
  const box = el("dl.figs", {}, ...names.map((name, i) => el("div", {}, el("dt", {}, name), values[i])));
  box.set = (texts) => texts.forEach((t, i) => { values[i].textContent = t; });
  return box;
}

function holding(m, stage, model) {
  const first = stage?.layer_first ?? m.layer_first;
  const last = stage?.layer_last ?? m.layer_last;
  if (typeof first !== "number") return "No layers";
  const ends = [first === 0 ? "embedding" : "", last === model.layers ? "head" : ""].filter((e) => e !== "");
  const words = layers(first, last);
  return `${words[0].toUpperCase()}${words.slice(1)}${ends.length > 0 ? ` + ${ends.join(" + ")}` : ""}`;
}

function machine(m) {
  return [m.device, m.host ? `${m.host}:${m.port}` : ""].filter(Boolean).map((words) => el("span", {}, words));
}

// ---- a card ----

class Card {
  constructor(index) {
    this.state = el("span.pill");
    this.name = el("h3");
    this.where = el("p.where");
    this.holds = el("p.holds");
    this.trouble = el("p.trouble");
    this.load = meter("Loading");
    this.memory = meter("Memory");
    this.cache = meter("KV cache");
    this.figures = figures(["Step", "Steps/s", "Queue", "Sequences"]);
    this.element = el(`article.node.${colour(index)}`, {}, el("header", {}, this.name, this.state), this.where,
      this.holds, this.trouble, this.load, this.memory, this.cache, this.figures);
  }

  draw(m, stage, model) {
    this.name.textContent = m.name;
    this.name.title = m.fingerprint;
    this.state.textContent = m.state;
    this.state.className = `pill ${states[m.state] ?? "quiet"}`;
    const here = m.state !== "away";
    this.where.replaceChildren(...(here ? machine(m) : ["Not connected"]));
    this.holds.textContent = holding(m, stage, model);
    this.holds.hidden = !here;
    this.trouble.textContent = m.trouble;
    this.trouble.hidden = !m.trouble;
    this.load.set(m.load?.bytes_done ?? 0, m.load?.bytes_total ?? 0,
      m.load ? `${m.load.phase}: ${bytes(m.load.bytes_done)} of ${bytes(m.load.bytes_total)}` : "");
    const used = [m.resident_bytes ?? 0, m.kv_pages_used ?? 0];
    const whole = [m.memory_bytes ?? 0, m.kv_pages_total ?? 0];
    this.memory.set(used[0], whole[0], `${bytes(used[0])} of ${bytes(whole[0])}`);
    this.cache.set(used[1], whole[1], `${count(used[1])} of ${count(whole[1])} pages`);
    this.figures.hidden = stage === undefined;
    if (stage !== undefined)
      this.figures.set([micros(stage.compute_us), rate(m.steps_per_second), count(m.queue), count(m.sequences)]);
    this.element.title = here ? `Version ${m.version}, ${m.cores} cores, here for ${ago(m.joined_ms_ago)}` : "";
  }
}

// ---- all of them ----

function link(m, next) {
  const us = typeof m.next_rtt_us === "number" && m.next_rtt_us > 0 ? m.next_rtt_us : null;
  const words = us === null ? "" : micros(us);
  return el("div.link", { title: "Round trip to the next node", role: "note",
    "aria-label": `Link to ${next}, round trip ${us === null ? "not measured yet" : words}` },
  el("span", {}, words), el("i.arrow"));
}

export class Nodes {
  constructor() {
    this.cards = new Map();
    this.stages = el("ol.stages", { "aria-label": "Nodes of the route, in the order of their layers" });
    this.others = el("ul.stages", { "aria-labelledby": "others-title" });
    this.title = el("h3", { id: "others-title" }, "Not on the route");
    this.element = el("div.nodes", {}, this.stages, this.title, this.others);
    this.shape = "";
  }

  draw(status) {
    const stages = status.route?.stages ?? [];
    const byKey = new Map(status.members.map((m, i) => [m.fingerprint, { m, card: this.card(m, i) }]));
    const on = stages.map((s) => byKey.get(s.fingerprint)).filter((x) => x !== undefined);
    const off = [...byKey.values()].filter((x) => !on.includes(x));
    for (const { m, card } of byKey.values())
      card.draw(m, stages.find((s) => s.fingerprint === m.fingerprint), status.model);
    const shape = JSON.stringify([on, off].map((list) => list.map((x) => [x.m.fingerprint, x.m.next_rtt_us])));
    this.stages.hidden = on.length === 0;
    this.title.hidden = off.length === 0 || on.length === 0;
    if (shape === this.shape) return;
    this.shape = shape;
    this.stages.replaceChildren(...on.map(({ m, card }, i) =>
      el("li", {}, card.element, i + 1 < on.length ? link(m, on[i + 1].m.name) : null)));
    this.others.replaceChildren(...off.map(({ card }) => el("li", {}, card.element)));
  }

  card(m, index) {
    if (!this.cards.has(m.fingerprint)) this.cards.set(m.fingerprint, new Card(index));
    return this.cards.get(m.fingerprint);
  }
}
