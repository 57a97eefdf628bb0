// chat: the conversation that is shown, the answers that grow, and what the reader does with them.
import { addTurn, dropTurn, newConversation, path, show, titleOf, turnOf } from "./conversation.js";
import { el } from "./dom.js";
import { answer } from "./exchange.js";
import { icon } from "./icons.js";
import { session } from "./keep.js";
import { askForKey } from "./key.js";
import { settings } from "./settings.js";
import { Speech } from "./speech.js";
import { load, save } from "./store.js";
import { turnElement } from "./turn.js";
import { welcome } from "./welcome.js";

const SAVE_MS = 2000;
const NEAR_PX = 60;
const REST = 3; // times what it took to draw
const OPEN = "shoal.open"; // of the session: the conversation that a reload shows again

export class Chat {
  // changed(): the list of conversations is not as it was.
  constructor(root, composer, changed) {
    this.composer = composer;
    this.changed = changed;
    this.running = new Map(); // conversation id -> { c, turn, abort, speech, saved, rest, element, due }
    this.turns = el("div.turns");
    this.scroller = el("div.scroller", { tabindex: "0", role: "region", "aria-label": "Conversation" }, this.turns);
    this.latest = el("button.latest", { type: "button", hidden: true, onclick: () => this.toEnd() },
      icon("down"), "Latest");
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    composer.element.prepend(this.latest);
    root.append(this.scroller, composer.element);
    const last = load(session.get(OPEN) ?? "");
    this.set(last ?? newConversation());
  }

  // ---- which conversation ----

  set(c) {
    this.c = c;
    session.set(OPEN, c.id);
    this.draw();
    this.toEnd();
    this.changed();
  }

  fresh() {
    this.set(newConversation());
    this.composer.focus();
  }

  open(id) {
    const c = this.running.get(id)?.c ?? load(id);
    if (c !== null) this.set(c);
  }

  isRunning(id) {
    return this.running.has(id);
  }

  // The conversation as it is, also while it grows.
  get(id) {
    return this.c.id === id ? this.c : this.running.get(id)?.c ?? load(id);
  }

  // ---- what the reader does ----

  send(text) {
    if (this.running.has(this.c.id) || text.trim() === "") return;
    this.answerTo(this.c, addTurn(this.c, this.c.leaf, "user", text));
  }

  stop() {
    this.running.get(this.c.id)?.abort.abort();
  }

  // The conversation was deleted: what still comes for it is kept nowhere.
  forget(id) {
    const run = this.running.get(id);
    if (run !== undefined) {
      run.forgotten = true;
      run.abort.abort();
    }
    if (this.c.id === id) this.fresh();
  }

  again(turn) {
    const c = this.c;
    if (this.running.has(c.id)) return;
    const question = turnOf(c, turn.parent);
    c.leaf = question.id;
    if (turn.error && turn.content === "" && !turn.calls && !turn.reasoning) dropTurn(c, turn);
    this.answerTo(c, question);
  }

  againLast() {
    const last = turnOf(this.c, this.c.leaf);
    if (last?.role === "assistant") this.again(last);
  }

  editLast() {
    const last = path(this.c).findLast((t) => t.role === "user");
    if (last !== undefined) this.edit(last);
  }

  // The turn's text in a form; what it becomes is another version of the turn.
  edit(turn) {
    const box = this.boxOf(turn);
    if (box === null || this.running.has(this.c.id)) return;
    const rows = Math.min(turn.content.split("\n").length + 1, 14);
    const input = el("textarea", { rows, "aria-label": "Your words" });
    const submit = () => {
      if (input.value.trim() === "") return;
      this.answerTo(this.c, addTurn(this.c, turn.parent, "user", input.value));
      this.composer.focus();
    };
    const cancel = () => this.draw();
    input.value = turn.content;
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
      if (event.key === "Escape") { event.stopPropagation(); cancel(); this.composer.focus(); }
    });
    box.replaceChildren(el("form", { onsubmit: (event) => { event.preventDefault(); submit(); } }, input,
      el("div.row", {}, el("button", { type: "button", onclick: cancel }, "Cancel"),
        el("button.main", { type: "submit" }, "Send"))));
    input.focus();
  }

  results(turn, list) {
    if (this.running.has(this.c.id)) return;
    let last = turn;
    for (const { content, ...more } of list) last = addTurn(this.c, last.id, "tool", content, more);
    this.answerTo(this.c, last);
  }

  // Another version of a turn; label: of the button that asked, which is where the reader's keys stay.
  showVersion(turn, label) {
    if (this.running.has(this.c.id)) return;
    show(this.c, turn);
    save(this.c);
    this.draw();
    const buttons = [...this.boxOf(turn).querySelectorAll(".branches button:not(:disabled)")];
    (buttons.find((b) => b.title === label) ?? buttons[0]).focus();
  }

  boxOf(turn) {
    return this.turns.querySelector(`[data-id="${CSS.escape(turn.id)}"]`);
  }

  // ---- an answer that grows ----

  async answerTo(c, question) {
    const model = settings().model;
    const turn = addTurn(c, question.id, "assistant", "", model === "" ? {} : { model });
    const run = { c, turn, abort: new AbortController(), speech: new Speech(), saved: Date.now(), rest: 0 };
    this.running.set(c.id, run);
    save(c);
    this.changed();
    this.draw();
    this.toEnd();
    if (document.activeElement === document.body) this.composer.focus();
    const failed = await answer(c, question, turn, settings().system, run.abort.signal, () => this.grew(run));
    this.running.delete(c.id);
    if (failed?.status === 401 && turn.content === "" && await askForKey(failed.message)) {
      dropTurn(c, turn);
      this.answerTo(c, question);
      return;
    }
    this.ended(run);
  }

  ended(run) {
    const { c, turn } = run;
    c.updated = Date.now();
    if (!run.forgotten) save(c);
    this.changed();
    if (c !== this.c) return;
    run.speech.finish(turn.content, turn.finish === "stopped" ? "Stopped." : null);
    this.drawn(run);
    this.state();
  }

  // Draws at most once a frame and a quarter of the time, and keeps what has come for the case that the tab is closed.
  grew(run) {
    if (Date.now() - run.saved > SAVE_MS) {
      save(run.c);
      run.saved = Date.now();
    }
    if (run.c !== this.c || run.due) return;
    run.due = true;
    setTimeout(() => requestAnimationFrame(() => {
      run.due = false;
      if (run.c !== this.c || !this.running.has(run.c.id)) return;
      const began = performance.now();
      run.speech.grow(run.turn.content);
      this.drawn(run);
      run.rest = REST * (performance.now() - began);
    }), run.rest);
  }

  drawn(run) {
    const near = this.near();
    run.element?.grow(this.running.has(run.c.id));
    if (near) this.toEnd();
    else this.scrolled();
  }

  // ---- drawing ----

  acts() {
    return {
      show: (t, label) => this.showVersion(t, label), edit: (t) => this.edit(t), again: (t) => this.again(t),
      results: (t, list) => this.results(t, list),
      open: (t) => this.c.leaf === t.id && !this.running.has(this.c.id),
      busy: (t) => this.running.get(this.c.id)?.turn === t,
    };
  }

  draw() {
    const turns = path(this.c);
    const acts = this.acts();
    const run = this.running.get(this.c.id);
    const boxes = turns.map((t) => turnElement(this.c, t, acts));
    if (run !== undefined) run.element = boxes.at(-1);
    this.turns.replaceChildren(...(boxes.length > 0 ? boxes : [welcome((text) => this.composer.put(text))]));
    document.title = turns.length > 0 ? `${titleOf(this.c)} · Shoal` : "Shoal";
    this.state();
  }

  state() {
    const last = path(this.c).findLast((t) => t.usage);
    this.composer.state(this.running.has(this.c.id),
      last === undefined ? 0 : last.usage.prompt_tokens + last.usage.completion_tokens);
  }

  near() {
    const s = this.scroller;
    return s.scrollHeight - s.scrollTop - s.clientHeight < NEAR_PX;
  }

  scrolled() {
    this.latest.hidden = this.near();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.latest.hidden = true;
  }
}
