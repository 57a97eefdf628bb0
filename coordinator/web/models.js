// models: the picker of the model and its adapters.
import { el } from "./dom.js";
import { askJson } from "./server.js";
import { saveSettings, settings } from "./settings.js";

const contexts = new WeakMap(); // picker -> Map of model id to tokens

// Fills the picker with what the server has. Throws a ServerError.
export async function fillModels(select) {
  const { data } = await askJson("v1/models");
  const chosen = data.some((m) => m.id === settings().model) ? settings().model : data[0]?.id ?? "";
  select.replaceChildren(...data.map((m) => el("option", { value: m.id }, m.id)));
  select.value = chosen;
  contexts.set(select, new Map(data.map((m) => [m.id, m.max_model_len ?? 0])));
  if (settings().model !== "" && settings().model !== chosen) saveSettings({ model: "" });
}

// Tokens that the chosen model takes; 0: not known.
export function contextOf(select) {
  return contexts.get(select)?.get(select.value) ?? 0;
}

export function modelPicker() {
  const select = el("select.models", { "aria-label": "Model" });
  select.addEventListener("change", () => saveSettings({ model: select.value }));
  return select;
}
