// settings: what goes with every request, kept in this browser, and the dialog that changes it.
import { dialog, el, notice } from "./dom.js";
import { local } from "./keep.js";
import { askForKey, keyOf } from "./key.js";

const NAME = "shoal.settings";
const defaults = {
  system: "", temperature: "", top_p: "", max_tokens: "", thinking: "model", json: false, tools: "", model: "",
};

export function settings() {
  try {
    return { ...defaults, ...JSON.parse(local.get(NAME)) };
  } catch {
    return { ...defaults };
  }
}

export function saveSettings(changes) {
  local.set(NAME, JSON.stringify({ ...settings(), ...changes }));
}

const TOOLS = '[{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", ' +
  '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]';

// The fields of a request; what was left empty is the server's to choose.
export function requestFields() {
  const s = settings();
  const out = {};
  if (s.model !== "") out.model = s.model;
  if (s.temperature !== "") out.temperature = Number(s.temperature);
  if (s.top_p !== "") out.top_p = Number(s.top_p);
  if (s.max_tokens !== "") out.max_completion_tokens = Number(s.max_tokens);
  if (s.thinking !== "model") out.chat_template_kwargs = { enable_thinking: s.thinking === "on" };
  if (s.json) out.response_format = { type: "json_object" };
  if (s.tools.trim() !== "") out.tools = JSON.parse(s.tools);
  return out;
}

// ---- the dialog ----

function field(label, input, hint) {
  const id = `set-${label.toLowerCase().replace(/\W+/g, "-")}`;
  input.id = id;
  const below = hint === undefined ? null : el("span.hint", { id: `${id}-hint` }, hint);
  if (below !== null) input.setAttribute("aria-describedby", below.id);
  return el("div.field", {}, el("label", { for: id }, label), input, below);
}

function number(value, min, max, step) {
  const input = el("input", { type: "number", min, max, step, placeholder: "default", inputmode: "decimal" });
  input.value = value;
  return input;
}

function area(value, rows, placeholder = "") {
  const input = el("textarea", { rows, placeholder, spellcheck: "false" });
  input.value = value;
  return input;
}

function choice(value, options) {
  const input = el("select", {}, ...Object.entries(options).map(([v, words]) => el("option", { value: v }, words)));
  input.value = value;
  return input;
}

function checkTools(input) {
  input.setCustomValidity("");
  if (input.value.trim() === "") return;
  try {
    if (!Array.isArray(JSON.parse(input.value))) throw new Error("no list");
  } catch {
    input.setCustomValidity("A JSON list of tools, as OpenAI's API takes them");
  }
}

function inputs(s) {
  const tools = area(s.tools, 3, TOOLS);
  tools.addEventListener("input", () => checkTools(tools));
  const json = el("input", { type: "checkbox" });
  json.checked = s.json;
  return {
    system: area(s.system, 3),
    temperature: number(s.temperature, 0, 2, "any"),
    top_p: number(s.top_p, 0.01, 1, "any"),
    max_tokens: number(s.max_tokens, 1, 10000000, 1),
    thinking: choice(s.thinking, { model: "as the model does", on: "on", off: "off" }),
    json,
    tools,
  };
}

function valuesOf(i) {
  return Object.fromEntries(Object.entries(i).map(([name, e]) =>
    [name, e.type === "checkbox" ? e.checked : e.value]));
}

export function openSettings() {
  const i = inputs(settings());
  dialog("Settings", (close) => [el("form", {
    method: "dialog",
    onsubmit: (event) => {
      event.preventDefault();
      saveSettings(valuesOf(i));
      notice("Settings saved");
      close();
    },
  },
  field("System prompt", i.system),
  el("div.fields", {},
    field("Temperature", i.temperature, "0 is always the likeliest"),
    field("Top p", i.top_p),
    field("Longest answer", i.max_tokens, "tokens"),
    field("Thinking", i.thinking, "for models that can")),
  el("div.check", {}, field("Answer in JSON", i.json, "Say in the prompt what you want in it")),
  field("Tools", i.tools, "A JSON list; calls are shown, and you give their results"),
  el("div.row", {},
    el("button", { type: "button", onclick: () => { close(); askForKey("The key that requests carry."); } },
      keyOf() === "" ? "API key…" : "API key (set)…"),
    el("span.spring"),
    el("button.main", { type: "submit" }, "Save")))]);
}
