// cluster: a live picture of the cluster, from /status and /metrics.
import { Band } from "./band.js";
import { el } from "./dom.js";
import { Nodes } from "./nodes.js";
import { ask, askJson, dressed } from "./server.js";
import { bytes, count, micros, rate, short } from "./words.js";

const SEEN_MS = 1000;
const UNSEEN_MS = 5000;
const SAMPLES = 90;
const MEAN_OF = 3; // samples

// name -> value, of lines without labels.
function parseMetrics(text) {
  const out = {};
  for (const line of text.split("\n")) {
    const m = line.match(/^(\w+) ([-+.\deE]+)$/);
    if (m !== null) out[m[1]] = Number(m[2]);
  }
  return out;
}

function tile(label) {
  const value = el("dd");
  const more = el("dd.more");
  const box = el("div.tile", {}, el("dt", {}, label), value, more);
  box.set = (text, below = "") => {
    value.textContent = text;
    more.textContent = below;
  };
  return box;
}

class Spark {
  constructor() {
    const space = "http://www.w3.org/2000/svg";
    this.element = document.createElementNS(space, "svg");
    this.line = document.createElementNS(space, "polyline");
    this.element.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 30`);
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("aria-hidden", "true");
    this.element.classList.add("spark");
    this.element.append(this.line);
  }

  draw(samples) {
    const most = Math.max(...samples, 1);
    const from = SAMPLES - samples.length;
    this.line.setAttribute("points", samples.map((v, i) => `${from + i},${(28 - 26 * v / most).toFixed(1)}`).join(" "));
  }
}

export class Cluster {
  // trouble(text): why the server cannot answer now, "" when it can; after each look.
  constructor(root, trouble) {
    this.trouble = trouble;
    this.visible = false;
    this.last = null;
    this.samples = [];
    this.build(root);
    document.addEventListener("visibilitychange", () => this.soon());
    this.soon();
  }

  build(root) {
    this.name = el("h1");
    this.pill = el("span.pill");
    this.facts = el("p.facts");
    this.text = el("p.state-text", { role: "status" });
    this.tiles = { tokens: tile("Tokens/s"), requests: tile("Requests"), step: tile("Step"), cache: tile("KV cache"),
      nodes: tile("Nodes") };
    this.spark = new Spark();
    this.tiles.tokens.append(this.spark.element);
    this.band = new Band();
    this.steps = el("p.hint");
    this.nodes = new Nodes();
    this.foot = el("p.hint");
    this.body = el("div.cluster-body", { hidden: true },
      el("header.cluster-head", {}, this.name, this.pill), this.facts, this.text,
      el("dl.tiles", {}, ...Object.values(this.tiles)), el("h2", {}, "Layers"), this.band.element, this.steps,
      el("h2", {}, "Nodes"), this.nodes.element, this.foot);
    this.lost = el("p.error", { role: "status", hidden: true });
    root.append(el("div.scroller", { tabindex: "0", role: "region", "aria-label": "Cluster" },
      el("div.cluster-column", {}, this.lost, this.body)));
  }

  seen(visible) {
    this.visible = visible;
    this.last = null;
    this.soon();
  }

  // Looks now, and again and again while the tab is shown.
  soon() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    this.turn = (this.turn ?? 0) + 1;
    this.look(this.turn);
  }

  async look(turn) {
    try {
      const [status, metrics] = await Promise.all([askJson("status"),
        this.visible ? ask("metrics").then((r) => r.text()) : null]);
      if (turn !== this.turn) return;
      this.lost.hidden = true;
      this.body.classList.remove("stale");
      this.trouble(status.state === "ready" ? "" : dressed(status.text || `the cluster is ${status.state}`));
      if (this.visible) this.draw(status, parseMetrics(metrics));
    } catch (error) {
      if (turn !== this.turn) return;
      this.lost.textContent = error.message;
      this.lost.hidden = false;
      this.body.classList.add("stale");
      this.trouble(error.message);
    }
    this.timer = setTimeout(() => this.soon(), this.visible ? SEEN_MS : UNSEEN_MS);
  }

  // ---- drawing ----

  draw(status, metrics) {
    const now = performance.now();
    const was = this.last;
    this.last = { now, generated: metrics.shoal_generated_tokens_total, steps: metrics.shoal_steps_total };
    this.body.hidden = false;
    this.head(status);
    if (was !== null) this.moved(status, was);
    this.figures(status, metrics);
    this.band.draw(status);
    this.nodes.draw(status);
    this.foot.textContent = `Shoal ${status.version} · ` +
      `${count(status.connections_accepted)} connections accepted, ${count(status.connections_refused)} refused`;
  }

  head({ model, state, text }) {
    this.name.textContent = model.name;
    this.pill.textContent = state;
    this.pill.className = `pill ${state === "ready" ? "good" : "warn"}`;
    this.text.hidden = state === "ready";
    if (this.text.textContent !== text) this.text.textContent = text === "" ? "" : dressed(text);
    this.facts.textContent = [model.architecture, `${model.layers} layers`,
      model.experts > 0 ? `${model.experts} experts` : "dense",
      `${short(model.parameters)} parameters` + (model.parameters_active < model.parameters
        ? `, ${short(model.parameters_active)} a token` : ""),
      bytes(model.bytes), model.context > 0 ? `context ${count(model.context)}` : ""].filter(Boolean).join(" · ");
  }

  // What has happened since the last look.
  moved(status, was) {
    const ms = this.last.now - was.now;
    this.samples.push(Math.max(0, this.last.generated - was.generated) * 1000 / ms);
    this.samples = this.samples.slice(-SAMPLES);
    this.spark.draw(this.samples);
    const steps = Math.max(0, this.last.steps - was.steps);
    const each = this.band.run(steps, ms, status.route?.stages ?? []);
    this.steps.textContent = steps === 0 ? "No steps now."
      : `${rate(steps * 1000 / ms)} steps/s${each > 1 ? `; a dot stands for ${each}` : "; each dot is one"}.`;
  }

  figures(status, metrics) {
    const latest = this.samples.slice(-MEAN_OF);
    const tokens = latest.reduce((a, b) => a + b, 0) / Math.max(latest.length, 1);
    const here = status.members.filter((m) => m.state !== "away");
    const pages = here.filter((m) => m.kv_pages_total > 0).map((m) => m.kv_pages_used / m.kv_pages_total);
    const t = this.tiles;
    t.tokens.set(rate(tokens), `${short(metrics.shoal_generated_tokens_total)} in all`);
    t.requests.set(count(metrics.shoal_requests_running), `${count(metrics.shoal_requests_waiting)} waiting`);
    const stages = status.route?.stages.length ?? 0;
    t.step.set(micros(metrics.shoal_step_seconds * 1e6), `${stages} stage${stages === 1 ? "" : "s"}`);
    t.cache.set(`${(100 * Math.max(0, ...pages)).toFixed(0)} %`, `of ${count(status.model.kv_tokens)} tokens`);
    t.nodes.set(count(here.filter((m) => m.state === "serving").length), `serving, ${here.length} here`);
  }
}
