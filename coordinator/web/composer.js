// composer: where the reader writes, with the model, the button that sends or stops, and a word on the server's state.
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { contextOf, modelPicker } from "./models.js";

const LINES_MAX_PX = 320;

export class Composer {
  // acts: send(text), stop(), editLast().
  constructor(acts) {
    this.acts = acts;
    this.busy = false;
    this.used = 0;
    this.input = el("textarea", { rows: 1, id: "words", "aria-label": "Your message", placeholder: "Ask anything",
      "aria-keyshortcuts": "/" });
    this.button = el("button.send.main", { type: "submit" });
    this.models = modelPicker();
    this.strip = el("div.strip", { role: "status", hidden: true });
    this.foot = el("div.foot");
    const form = el("form.box", { onsubmit: (event) => { event.preventDefault(); this.submit(); } }, this.input,
      el("div.row", {}, this.models, el("span.spring"), this.button));
    this.element = el("div.composer", {}, this.strip, form, this.foot);
    this.input.addEventListener("input", () => this.fit());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.state(false, 0);
  }

  key(event) {
    if (event.key === "ArrowUp" && this.input.value === "") {
      event.preventDefault();
      this.acts.editLast();
    }
    const finger = matchMedia("(pointer: coarse)").matches;
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || finger) return;
    event.preventDefault();
    if (!this.busy) this.submit();
  }

  submit() {
    if (this.busy) {
      this.acts.stop();
      return;
    }
    const text = this.input.value;
    if (text.trim() === "") return;
    this.input.value = "";
    this.fit();
    this.acts.send(text);
  }

  // For browsers that do not size a field by what is in it.
  fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, LINES_MAX_PX)}px`;
  }

  focus() {
    this.input.focus();
  }

  put(text) {
    this.input.value = text;
    this.fit();
    this.focus();
  }

  // busy: an answer grows; used: tokens of the conversation, 0 where nobody has counted.
  state(busy, used) {
    this.busy = busy;
    this.used = used;
    const label = busy ? "Stop" : "Send";
    this.button.classList.toggle("stop", busy);
    this.button.setAttribute("aria-label", label);
    this.button.title = busy ? "Stop (Esc)" : "Send (Enter)";
    this.button.replaceChildren(icon(busy ? "stop" : "send"));
    this.tell();
  }

  tell() {
    const most = contextOf(this.models);
    const n = (v) => v.toLocaleString("en");
    this.foot.textContent = this.used > 0 && most > 0 ? `${n(this.used)} of ${n(most)} tokens of context`
      : "Models make mistakes. Nodes that compute an answer can read it.";
  }

  // What keeps the server from answering, or "".
  trouble(text) {
    if (this.strip.textContent !== text) this.strip.textContent = text;
    this.strip.hidden = text === "";
  }
}
