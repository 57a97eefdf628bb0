// list: the conversations of this browser: open, new, rename, delete, find, import, export.
import { titleOf } from "./conversation.js";
import { el, notice } from "./dom.js";
import { icon } from "./icons.js";
import { all, exported, imported, remove, save } from "./store.js";
import { button } from "./turn.js";

const DAY_MS = 86400000;
const FIND_FROM = 8; // conversations

function day(ms) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (ms >= midnight) return "Today";
  if (ms >= midnight - DAY_MS) return "Yesterday";
  return ms >= midnight - 6 * DAY_MS ? "This week" : "Earlier";
}

function download(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const name = `shoal-conversations-${new Date().toISOString().slice(0, 10)}.json`;
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export class List {
  // chat: see chat.js; opened(): the reader has chosen.
  constructor(root, chat, opened) {
    this.chat = chat;
    this.opened = opened;
    this.words = "";
    this.find = el("input", { type: "search", placeholder: "Find", "aria-label": "Find conversations", hidden: true,
      oninput: () => { this.words = this.find.value.toLowerCase(); this.draw(); } });
    this.box = el("div.list-body");
    this.file = el("input", { type: "file", accept: ".json,application/json", hidden: true,
      onchange: () => this.import() });
    this.new = el("button.new", { type: "button", onclick: () => { chat.fresh(); opened(); } }, icon("plus"),
      "New conversation");
    root.append(el("div.list-head", {}, this.new, this.find),
      this.box,
      el("div.list-foot", {}, el("button", { type: "button", onclick: () => this.file.click() }, "Import"),
        el("button", { type: "button", onclick: () => this.export() }, "Export all"), this.file));
    addEventListener("storage", () => this.draw());
  }

  draw() {
    const conversations = all();
    this.find.hidden = conversations.length < FIND_FROM && this.words === "";
    const shown = conversations.filter((c) => this.words === "" || titleOf(c).toLowerCase().includes(this.words) ||
      c.turns.some((t) => t.content.toLowerCase().includes(this.words)));
    const groups = Map.groupBy(shown, (c) => day(c.updated));
    this.box.replaceChildren(...[...groups].flatMap(([name, group]) =>
      [el("h2", {}, name), el("ul", {}, ...group.map((c) => this.entry(c)))]));
    if (shown.length === 0)
      this.box.append(el("p.list-none", {}, this.words === "" ? "Conversations are kept here."
        : "None has these words."));
  }

  entry(c) {
    const current = c.id === this.chat.c.id;
    const open = el("button.open", { type: "button", title: titleOf(c), "aria-current": current ? "true" : null,
      onclick: () => { this.chat.open(c.id); this.opened(); } }, titleOf(c));
    const row = el("li.entry", {}, open, button("edit", `Rename: ${titleOf(c)}`, () => this.rename(c, row)),
      button("trash", `Delete: ${titleOf(c)}`, () => this.delete(c)));
    row.classList.toggle("current", current);
    row.classList.toggle("running", this.chat.isRunning(c.id));
    return row;
  }

  rename(c, row) {
    const input = el("input", { "aria-label": "Title", maxlength: 200 });
    let over = false;
    const end = (keep) => {
      if (over) return;
      over = true;
      const now = this.chat.get(c.id);
      if (keep && now !== null) {
        now.title = input.value.trim();
        save(now);
      }
      this.draw();
    };
    input.value = titleOf(c);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") { event.stopPropagation(); end(false); }
    });
    input.addEventListener("blur", () => end(true));
    row.replaceChildren(input);
    input.select();
  }

  delete(c) {
    const kept = this.chat.get(c.id);
    remove(c.id);
    this.chat.forget(c.id);
    this.draw();
    (this.box.querySelector(".current .open") ?? this.new).focus();
    notice("Conversation deleted", { label: "Undo", act: () => { save(kept); this.draw(); } });
  }

  step(by) {
    const conversations = all();
    const at = conversations.findIndex((c) => c.id === this.chat.c.id);
    const next = conversations[at < 0 ? 0 : at + by];
    if (next !== undefined) this.chat.open(next.id);
  }

  export() {
    const conversations = all();
    if (conversations.length === 0) notice("There is nothing to export yet.");
    else download(exported(conversations));
  }

  async import() {
    const file = this.file.files[0];
    if (file === undefined) return;
    try {
      const n = imported(await file.text());
      notice(`${n} conversation${n === 1 ? "" : "s"} imported`);
    } catch (error) {
      notice(`The file was not imported: ${error.message}.`);
    }
    this.file.value = "";
    this.draw();
  }
}
