// exchange: one question to the server; its answer grows in a turn of the conversation.
import { messages } from "./conversation.js";
import { ask } from "./server.js";
import { requestFields } from "./settings.js";
import { events } from "./stream.js";

const SPEED_MS = 50;

// Deltas of one call have its index; a call begins with its name.
function addCalls(turn, deltas) {
  turn.calls ??= [];
  for (const d of deltas) {
    const at = Math.min(d.index ?? turn.calls.length, turn.calls.length);
    turn.calls[at] ??= { id: "", name: "", arguments: "" };
    turn.calls[at].id += d.id ?? "";
    turn.calls[at].name += d.function?.name ?? "";
    turn.calls[at].arguments += d.function?.arguments ?? "";
  }
}

function addEvent(turn, event, started) {
  if (event.usage)
    turn.usage = { prompt_tokens: event.usage.prompt_tokens, completion_tokens: event.usage.completion_tokens };
  const choice = event.choices?.[0];
  if (choice === undefined) return;
  const { content, reasoning_content: reasoning, tool_calls: calls } = choice.delta ?? {};
  const now = performance.now() - started;
  if (content || reasoning || calls) turn.first_ms ??= now;
  if ((content || calls) && turn.reasoning) turn.thought_ms ??= now - turn.first_ms;
  if (content) turn.content += content;
  if (reasoning) turn.reasoning = (turn.reasoning ?? "") + reasoning;
  if (calls) addCalls(turn, calls);
  if (choice.finish_reason) turn.finish = choice.finish_reason;
  turn.model = event.model;
}

// Asks for the answer to `question`'s branch and lets it grow in `turn`; grew() after each piece. Sets turn.error,
// or finish "stopped" where the signal ended it. Gives the error, or null.
export async function answer(conversation, question, turn, system, signal, grew) {
  const started = performance.now();
  let failed = null;
  try {
    const body = {
      ...requestFields(), messages: messages(conversation, system, question), stream: true,
      stream_options: { include_usage: true },
    };
    for await (const event of events(await ask("v1/chat/completions", body, signal))) {
      addEvent(turn, event, started);
      grew();
    }
  } catch (error) {
    if (error.name === "AbortError") turn.finish = "stopped";
    else {
      turn.error = error.message;
      failed = error;
    }
  }
  turn.ms = performance.now() - started;
  return failed;
}

// Tokens of the answer a second, from the first on; null where nobody counted, or too little time passed to tell.
export function speed(turn) {
  const n = turn.usage?.completion_tokens ?? 0;
  const ms = turn.ms - turn.first_ms;
  return n > 1 && ms >= SPEED_MS ? (n - 1) * 1000 / ms : null;
}
