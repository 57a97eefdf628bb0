// welcome: what an empty conversation shows.
import { el } from "./dom.js";

const tries = ["What is the capital of France?", "Tell me a short story about a fox.", "Give me a city as JSON."];

export function welcome(put) {
  return el("div.welcome", {}, el("img", { src: "ui/icon.svg", alt: "" }), el("h1", {}, "What is on your mind?"),
    el("p", {}, "Answered by the machines of this cluster. Conversations stay in this browser."),
    el("div.tries", {}, ...tries.map((t) => el("button", { type: "button", onclick: () => put(t) }, t))));
}
