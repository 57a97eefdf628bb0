// turn: how one turn of a conversation looks.
import { siblings } from "./conversation.js";
import { copy, el } from "./dom.js";
import { speed } from "./exchange.js";
import { icon } from "./icons.js";
import { draw } from "./markdown.js";

const who = { user: "You", assistant: "Answer", tool: "Tool result" };

export function button(name, label, onclick) {
  return el("button.icon.small", { type: "button", "aria-label": label, title: label, onclick }, icon(name));
}

function branches(c, turn, acts) {
  const all = siblings(c, turn);
  if (all.length < 2) return null;
  const at = all.indexOf(turn);
  const go = (name, label, to) => {
    const b = button(name, label, () => acts.show(all[to], label));
    b.disabled = all[to] === undefined;
    return b;
  };
  return el("span.branches", { role: "group", "aria-label": "Versions" }, go("left", "Previous version", at - 1),
    el("span", {}, `${at + 1} / ${all.length}`), go("right", "Next version", at + 1));
}

function tools(c, turn, acts) {
  const row = el("div.tools", {}, branches(c, turn, acts));
  if (turn.content !== "") row.append(button("copy", "Copy", () => copy(turn.content)));
  if (turn.role === "user") row.append(button("edit", "Edit", () => acts.edit(turn)));
  if (turn.role === "assistant" && !turn.error) row.append(button("again", "Answer again", () => acts.again(turn)));
  return row;
}

function figures(turn) {
  const parts = [];
  const fast = speed(turn);
  if (turn.usage) parts.push(`${turn.usage.prompt_tokens} + ${turn.usage.completion_tokens} tokens`);
  if (fast !== null) parts.push(`${fast.toFixed(fast < 10 ? 1 : 0)} tokens/s`);
  if (turn.first_ms !== undefined) parts.push(`first after ${(turn.first_ms / 1000).toFixed(2)} s`);
  if (turn.finish === "stopped") parts.push("stopped");
  if (turn.finish === "length") parts.push("cut at its longest");
  return parts.join(" · ");
}

function callElement(call, acts, open) {
  let shown = call.arguments;
  try {
    shown = JSON.stringify(JSON.parse(call.arguments), null, 2);
  } catch { /* not whole yet: as it is */ }
  const box = el("div.call", { role: "group", "aria-label": `Tool call ${call.name}` },
    el("div.call-name", {}, "calls ", el("code", {}, call.name)), el("pre", { tabindex: "0" }, shown));
  if (!open) return box;
  const input = el("textarea", { rows: 2, "aria-label": `Result of ${call.name}`, placeholder: "Result" });
  box.append(input);
  box.result = () => ({ call_id: call.id, name: call.name, content: input.value });
  return box;
}

function callsElement(turn, acts) {
  const open = acts.open(turn) && turn.finish !== undefined;
  const boxes = turn.calls.map((c) => callElement(c, acts, open));
  const out = el("div.calls", {}, ...boxes);
  if (open)
    out.append(el("button.main", { type: "button", onclick: () => acts.results(turn, boxes.map((b) => b.result())) },
      turn.calls.length > 1 ? "Send results" : "Send result"));
  return out;
}

function errorElement(turn, acts) {
  return el("div.error", { role: "alert" }, el("span", {}, turn.error),
    el("button", { type: "button", onclick: () => acts.again(turn) }, "Try again"));
}

function thought(turn, busy) {
  if (turn.thought_ms < 1000) return "Thought for a moment";
  if (turn.thought_ms !== undefined) return `Thought for ${Math.round(turn.thought_ms / 1000)} s`;
  return busy ? "Thinking…" : "Thinking";
}

// An answer's element has grow(busy), which draws what has come meanwhile.
function answerParts(c, turn, acts, box) {
  const reasoning = el("details.reasoning", {}, el("summary", {}, "Thinking"), el("div.text"));
  const text = el("div.text.answer");
  const calls = el("div");
  const below = el("div.below");
  box.append(reasoning, text, calls, below);
  box.grow = (busy) => {
    box.firstChild.textContent = turn.model ?? who.assistant;
    reasoning.hidden = !turn.reasoning;
    reasoning.firstChild.textContent = thought(turn, busy);
    reasoning.classList.toggle("live", busy && turn.thought_ms === undefined);
    if (turn.reasoning) draw(reasoning.lastChild, turn.reasoning);
    draw(text, turn.content);
    text.classList.toggle("busy", busy);
    box.setAttribute("aria-busy", String(busy));
    if (turn.calls?.length > 0) calls.replaceChildren(callsElement(turn, acts));
    if (busy) return;
    below.replaceChildren(...[turn.error ? errorElement(turn, acts) : null,
      el("div.figures", {}, figures(turn)), tools(c, turn, acts)].filter((e) => e !== null));
  };
  box.grow(acts.busy(turn));
}

// acts: show(turn), edit(turn), again(turn), results(turn, list), open(turn), busy(turn).
export function turnElement(c, turn, acts) {
  const box = el(`article.turn.${turn.role}`, { "aria-label": who[turn.role], "data-id": turn.id });
  box.append(el("div.who", {}, who[turn.role]));
  if (turn.role === "assistant") {
    answerParts(c, turn, acts, box);
    return box;
  }
  box.append(el("div.text.said", {}, turn.role === "tool" ? `${turn.name}: ${turn.content}` : turn.content),
    el("div.below", {}, tools(c, turn, acts)));
  return box;
}
