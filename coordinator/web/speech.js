// speech: what a screen reader says of an answer while it grows: each sentence once, when it is whole.
import { find } from "./dom.js";

const KEPT = 40;

export class Speech {
  constructor() {
    this.said = 0;
  }

  // `text` is the answer so far; what was said of it is not said again.
  grow(text) {
    for (;;) {
      const end = text.slice(this.said).search(/[.!?:](?=\s)|\n/);
      if (end < 0) return;
      this.say(text.slice(this.said, this.said + end + 1));
      this.said += end + 1;
    }
  }

  finish(text, last) {
    this.grow(text);
    this.say(text.slice(this.said));
    this.said = text.length;
    if (last) this.say(last);
  }

  say(words) {
    const plain = words.replace(/[*_`#>|]+/g, " ").trim();
    if (plain === "") return;
    const box = find("speech");
    const line = document.createElement("p");
    line.textContent = plain;
    box.append(line);
    while (box.children.length > KEPT) box.firstChild.remove();
  }
}
