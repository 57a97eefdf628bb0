// conversation: a tree of turns. An edited or asked again turn is a sibling of the old one; `leaf` is the end of
// the branch that is shown.
//
// turn: { id, parent, role, content, created, and of an answer: reasoning, calls [{ id, name, arguments }], model,
// usage { prompt_tokens, completion_tokens }, ms, first_ms, thought_ms, finish, error; of a tool's result: call_id,
// name }

const TURNS_MAX = 5000;
const TEXT_MAX = 4 << 20;
const TITLE_MAX = 60;

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36).padStart(2, "0")).join("");
}

export function newConversation() {
  return { id: newId(), title: "", created: Date.now(), updated: Date.now(), turns: [], leaf: null };
}

export function addTurn(c, parent, role, content, more = {}) {
  const turn = { id: newId(), parent, role, content, created: Date.now(), ...more };
  c.turns.push(turn);
  c.leaf = turn.id;
  c.updated = Date.now();
  return turn;
}

export function turnOf(c, id) {
  return c.turns.find((t) => t.id === id) ?? null;
}

// The shown branch from its first turn.
export function path(c) {
  const byId = new Map(c.turns.map((t) => [t.id, t]));
  const out = [];
  for (let t = byId.get(c.leaf); t !== undefined && out.length <= TURNS_MAX; t = byId.get(t.parent)) out.push(t);
  return out.reverse();
}

// Takes a turn that nothing follows out again.
export function dropTurn(c, turn) {
  c.turns = c.turns.filter((t) => t !== turn);
  if (c.leaf === turn.id) c.leaf = turn.parent;
}

export function siblings(c, turn) {
  return c.turns.filter((t) => t.parent === turn.parent);
}

// Shows the branch of this turn, down to its newest end.
export function show(c, turn) {
  let end = turn;
  for (;;) {
    const children = c.turns.filter((t) => t.parent === end.id);
    if (children.length === 0) break;
    end = children.at(-1);
  }
  c.leaf = end.id;
}

export function titleOf(c) {
  if (c.title !== "") return c.title;
  const first = c.turns.find((t) => t.role === "user")?.content.trim().replace(/\s+/g, " ") ?? "";
  if (first === "") return "New conversation";
  return first.length > TITLE_MAX ? `${first.slice(0, TITLE_MAX)}…` : first;
}

function message(turn) {
  if (turn.role === "tool") return { role: "tool", tool_call_id: turn.call_id, content: turn.content };
  const m = { role: turn.role, content: turn.content };
  if (turn.calls?.length > 0) {
    m.tool_calls = turn.calls.map((c) => ({
      id: c.id, type: "function", function: { name: c.name, arguments: c.arguments },
    }));
  }
  return m;
}

// What the server is sent: the branch up to and with `last`. An answer that failed before it said anything is left out.
export function messages(c, system, last) {
  const out = system.trim() === "" ? [] : [{ role: "system", content: system }];
  for (const turn of path({ ...c, leaf: last.id }))
    if (turn.role !== "assistant" || turn.content !== "" || turn.calls?.length > 0) out.push(message(turn));
  return out;
}

// ---- from a file, by a stranger ----

function text(v, most = TEXT_MAX) {
  return typeof v === "string" && v.length <= most;
}

function count(v) {
  return typeof v === "number" && Number.isFinite(v) && v >= 0;
}

function checkCalls(calls) {
  if (!Array.isArray(calls) || calls.length > 128) throw new Error("a turn's calls are no list");
  return calls.map((c) => {
    if (!text(c?.id, 200) || !text(c.name, 200) || !text(c.arguments)) throw new Error("a tool call is not whole");
    return { id: c.id, name: c.name, arguments: c.arguments };
  });
}

function checkTurn(t, known) {
  if (!text(t?.id, 64) || t.id === "" || known.has(t.id)) throw new Error("a turn has no id of its own");
  if (t.parent !== null && !known.has(t.parent)) throw new Error("a turn follows one that is not before it");
  if (!["user", "assistant", "tool"].includes(t.role)) throw new Error("a turn is of nobody");
  if (!text(t.content)) throw new Error("a turn has no text");
  const created = count(t.created) ? t.created : 0;
  const out = { id: t.id, parent: t.parent, role: t.role, content: t.content, created };
  for (const name of ["reasoning", "model", "finish", "error", "call_id", "name"])
    if (text(t[name])) out[name] = t[name];
  for (const name of ["ms", "first_ms", "thought_ms"]) if (count(t[name])) out[name] = t[name];
  if (t.calls !== undefined) out.calls = checkCalls(t.calls);
  if (count(t.usage?.prompt_tokens) && count(t.usage.completion_tokens))
    out.usage = { prompt_tokens: t.usage.prompt_tokens, completion_tokens: t.usage.completion_tokens };
  return out;
}

// The conversation in the value, of checked parts only; throws an Error that says what is wrong.
export function checked(value) {
  if (!text(value?.id, 64) || !text(value.title, 500) || !Array.isArray(value.turns))
    throw new Error("it has no id, title and turns");
  if (value.turns.length > TURNS_MAX) throw new Error(`it has more than ${TURNS_MAX} turns`);
  const known = new Set();
  const turns = value.turns.map((t) => {
    const turn = checkTurn(t, known);
    known.add(turn.id);
    return turn;
  });
  if (value.leaf !== null && !known.has(value.leaf)) throw new Error("its last turn is missing");
  return {
    id: value.id, title: value.title, turns, leaf: value.leaf,
    created: count(value.created) ? value.created : Date.now(),
    updated: count(value.updated) ? value.updated : Date.now(),
  };
}
