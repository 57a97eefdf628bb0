// shortcuts: what keys do anywhere on the page, and the dialog that says so.
import { dialog, el } from "./dom.js";

const rows = [
  ["/", "Write a message"], ["Enter", "Send it"], ["Shift Enter", "New line"],
  ["↑", "Edit the last message (when the field is empty)"],
  ["Esc", "Stop the answer"], ["Alt R", "Answer again"], ["Ctrl Shift O", "New conversation"],
  ["Alt ↑", "Newer conversation"], ["Alt ↓", "Older conversation"], ["Alt 1", "Chat"], ["Alt 2", "Cluster"],
  ["?", "These keys"],
];

export function openHelp() {
  dialog("Keyboard shortcuts", () => [el("table.keys", {}, el("tbody", {}, ...rows.map(([keys, what]) =>
    el("tr", {}, el("th", { scope: "row" }, ...keys.split(" ").flatMap((k, i) => [i > 0 ? " " : "", el("kbd", {}, k)])),
      el("td", {}, what)))))]);
}

function typing() {
  return document.activeElement?.matches("input, textarea, select") ?? false;
}

// acts: write, stop, again, fresh, newer, older, chat, cluster.
export function startShortcuts(acts) {
  const table = [
    { key: "/", when: () => !typing(), act: acts.write },
    { key: "?", shift: null, when: () => !typing(), act: openHelp },
    { key: "Escape", act: acts.stop, goesOn: true },
    { code: "KeyR", alt: true, act: acts.again },
    { code: "KeyO", ctrl: true, shift: true, act: acts.fresh },
    { key: "ArrowUp", alt: true, act: acts.newer },
    { key: "ArrowDown", alt: true, act: acts.older },
    { code: "Digit1", alt: true, act: acts.chat },
    { code: "Digit2", alt: true, act: acts.cluster },
  ];
  addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]") !== null) return;
    const row = table.find((r) => (r.key ?? event.key) === event.key && (r.code ?? event.code) === event.code &&
      event.altKey === (r.alt ?? false) && (event.ctrlKey || event.metaKey) === (r.ctrl ?? false) &&
      (r.shift === null || event.shiftKey === (r.shift ?? false)) && (r.when?.() ?? true));
    if (row === undefined) return;
    if (!row.goesOn) event.preventDefault();
    row.act();
  });
}
