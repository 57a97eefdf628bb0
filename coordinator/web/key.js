// key: the reader's API key, kept for as long as the tab is open.
import { dialog, el } from "./dom.js";
import { session } from "./keep.js";

const NAME = "shoal.key";

export function keyOf() {
  return session.get(NAME) ?? "";
}

let open = null;

// Asks once at a time; resolves when a key was given (true) or not (false).
export function askForKey(text) {
  open ??= new Promise((resolve) => {
    const input = el("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false" });
    let given = false;
    input.value = keyOf();
    const box = dialog("API key", (close) => [el("form", {
      method: "dialog",
      onsubmit: (event) => {
        event.preventDefault();
        session.set(NAME, input.value.trim());
        given = true;
        close();
      },
    }, el("p", {}, text), el("label", { for: "key" }, "Key"), input,
    el("p.hint", {}, "It is kept until this tab is closed, and sent to this server only."),
    el("div.row", {}, el("button.main", { type: "submit" }, "Use it")))]);
    box.addEventListener("close", () => {
      open = null;
      resolve(given);
    });
    input.focus();
  });
  return open;
}
