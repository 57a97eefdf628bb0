// server: asking this server, with the reader's key and with its own words when it refuses.
import { keyOf } from "./key.js";

export class ServerError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function headers(body) {
  const out = {};
  if (body !== undefined) out["Content-Type"] = "application/json";
  if (keyOf() !== "") out.Authorization = `Bearer ${keyOf()}`;
  return out;
}

// As people write sentences.
export function dressed(words) {
  const first = words[0].toUpperCase() + words.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

// The sentence in an error's body, whatever its form; but of keys a browser says more than a header's name.
function sentence(response, text) {
  if (response.status === 401)
    return keyOf() === "" ? "This server wants an API key." : "The server does not take this API key.";
  const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
  const later = seconds > 0 ? ` Try again in ${seconds} s.` : "";
  try {
    const { error } = JSON.parse(text);
    const words = typeof error === "string" ? error : error?.message;
    if (typeof words === "string" && words.trim() !== "") return dressed(words.trim()) + later;
  } catch { /* not JSON: from something between */ }
  return `The server answered ${response.status}.${later}`;
}

// The page is served at / and at /ui, perhaps below another path, where a proxy has put it.
const root = new URL(location.pathname.replace(/\/ui\/?$/, "/"), location.origin);

// The response when it is good; else throws a ServerError (status 0: nobody answered).
export async function ask(path, body, signal) {
  let response;
  try {
    response = await fetch(new URL(path, root), {
      method: body === undefined ? "GET" : "POST", headers: headers(body), signal, cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server cannot be reached.");
  }
  if (!response.ok) throw new ServerError(response.status, sentence(response, await response.text()));
  return response;
}

export async function askJson(path, body, signal) {
  return (await ask(path, body, signal)).json();
}
