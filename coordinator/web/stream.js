// stream: server-sent events of a response, each as the JSON that it carries.
import { ServerError } from "./server.js";

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

// Ends at [DONE]; throws a ServerError at an error event, or when the stream is cut before it is whole.
export async function* events(response) {
  try {
    for await (const line of lines(response)) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(200, event.error.message ?? String(event.error));
      yield event;
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ServerError) throw error;
  }
  throw new ServerError(0, "The connection was cut before the answer was whole.");
}
