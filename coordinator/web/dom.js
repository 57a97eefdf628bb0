// dom: elements out of names, attributes and children; text is only ever text.
import { icon } from "./icons.js";

// el("button.icon", { type: "button", onclick: f, hidden: true }, "text", child, [children], ...)
export function el(what, given = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const e = document.createElement(tag);
  if (classes.length > 0) e.classList.add(...classes);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) e.setAttribute(name, String(value));
  }
  fill(e, children.flat());
  return e;
}

// Puts children behind what is there, however many: arguments of a call are bounded.
export function fill(e, children) {
  for (const c of children) if (c !== null && c !== undefined) e.append(c);
}

export function find(id) {
  return document.getElementById(id);
}

// A word to the reader that goes away by itself; action { label, act }: what can be done about it meanwhile.
let noticed = 0;
export function notice(text, action) {
  const box = find("notice");
  const clear = () => box.replaceChildren();
  clearTimeout(noticed);
  box.replaceChildren(el("span", {}, text), ...(action === undefined ? [] : [
    el("button.small", { type: "button", onclick: () => { clear(); action.act(); } }, action.label)]));
  noticed = setTimeout(clear, action === undefined ? 4000 : 9000);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text);
  }
  notice("Copied");
}

// The clipboard is closed to pages of plain http beyond this machine.
function copyBySelection(text) {
  const area = el("textarea.unseen", { "aria-hidden": "true" });
  const focused = document.activeElement;
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}

// A dialog that is made when asked for and gone when closed. build(close) gives its children.
export function dialog(title, build) {
  const box = el("dialog", { "aria-label": title });
  const close = () => box.close();
  box.append(el("div.dialog-head", {}, el("h2", {}, title),
    el("button.icon", { type: "button", "aria-label": "Close", onclick: close }, icon("close"))), ...build(close));
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => { if (event.target === box) close(); });
  document.body.append(box);
  box.showModal();
  return box;
}
