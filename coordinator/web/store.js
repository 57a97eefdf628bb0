// store: conversations in this browser, one entry each; and as a file.
import { checked, newId } from "./conversation.js";
import { notice } from "./dom.js";
import { local } from "./keep.js";

const PREFIX = "shoal.chat.";
const FORMAT = "shoal-conversations";
const FILE_MAX = 64 << 20;

function read(name) {
  try {
    return checked(JSON.parse(local.get(name)));
  } catch {
    return null;
  }
}

// Newest first. What cannot be read is left where it is, and out.
export function all() {
  const out = [];
  for (const name of local.names()) {
    const c = name.startsWith(PREFIX) ? read(name) : null;
    if (c !== null) out.push(c);
  }
  return out.sort((a, b) => b.updated - a.updated);
}

export function load(id) {
  return read(PREFIX + id);
}

export function save(c) {
  const kept = local.set(PREFIX + c.id, JSON.stringify(c));
  if (!kept) notice("This browser has no more room for conversations: export and delete some.");
  return kept;
}

export function remove(id) {
  local.remove(PREFIX + id);
}

export function exported(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

// Adds the file's conversations, under new ids where theirs are taken. Nothing is added of a file that is not
// whole: an Error says why. How many.
export function imported(text) {
  if (text.length > FILE_MAX) throw new Error("it is larger than 64 MB");
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("it is not JSON");
  }
  if (value?.format !== FORMAT || value.version !== 1 || !Array.isArray(value.conversations))
    throw new Error("it is no export of this page");
  const conversations = value.conversations.map(checked);
  for (const c of conversations) {
    if (local.get(PREFIX + c.id) !== null) c.id = newId();
    if (!save(c)) throw new Error("this browser has no more room");
  }
  return conversations.length;
}
