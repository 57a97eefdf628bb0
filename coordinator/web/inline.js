// inline: the words of a line of markdown as elements: code, bold, italic, links.
// Text becomes text nodes and nothing else; a link leads to http or https, or is no link.
import { el } from "./dom.js";

const DEPTH_MAX = 8;

export function safeUrl(text) {
  if (!/^https?:\/\//i.test(text)) return null;
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

function link(url, children) {
  return el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}

// [words](address "title"); the address may have one pair of brackets. A picture is a link too: nothing is fetched.
const LINK = new RegExp("!?\\[([^[\\]\\n]{1,1000})\\]\\(\\s{0,3}" +
  "([^\\s()]{1,2000}(?:\\([^\\s()]{0,200}\\)[^\\s()]{0,200})?)" +
  '(?:\\s{1,3}"[^"\\n]{0,300}")?\\s{0,3}\\)', "y");

function linkTo(m, depth) {
  const url = safeUrl(m[2]);
  return url === null ? [m[0]] : [link(url, words(m[1], depth))];
}

// Each rule: what it begins with, and what it makes of a match.
const rules = [
  { at: "\\", match: /\\([!-/:-@[-`{-~])/y, make: (m) => [m[1]] },
  { at: "`", match: /(`{1,3})(?!`)([^\n]{1,2000}?)(?<!`)\1(?!`)/y, make: (m) => [el("code", {}, m[2].trim() || m[2])] },
  { at: "*", match: /\*\*\*(?=\S)([^*\n]{1,2000})(?<=\S)\*\*\*/y,
    make: (m, d) => [el("strong", {}, el("em", {}, words(m[1], d)))] },
  { at: "*", match: /\*\*(?=\S)([^\n]{1,2000}?\S|\S)\*\*/y, make: (m, d) => [el("strong", {}, words(m[1], d))] },
  { at: "*", match: /\*(?=[^\s*])([^*\n]{1,2000})(?<=\S)\*(?!\*)/y, make: (m, d) => [el("em", {}, words(m[1], d))] },
  { at: "_", match: /__(?=\S)([^\n]{1,2000}?\S|\S)__(?!\w)/y, make: (m, d) => [el("strong", {}, words(m[1], d))],
    apart: true },
  { at: "_", match: /_(?=[^\s_])([^_\n]{1,2000})(?<=\S)_(?!\w)/y, make: (m, d) => [el("em", {}, words(m[1], d))],
    apart: true },
  { at: "~", match: /~~(?=\S)([^~\n]{1,2000})~~/y, make: (m, d) => [el("del", {}, words(m[1], d))] },
  { at: "[", match: LINK, make: linkTo },
  { at: "!", match: LINK, make: linkTo },
  { at: "<", match: /<(https?:\/\/[^\s<>]{1,2000})>/y, make: (m) => address(m[1]) },
  { at: "h", match: /https?:\/\/[^\s<>"'`]{1,2000}/iy, make: (m) => bare(m[0]), apart: true },
];

function address(text) {
  const url = safeUrl(text);
  return url === null ? [text] : [link(url, [text])];
}

// What ends a sentence does not belong to the address.
function bare(text) {
  const end = text.match(/[.,;:!?*_~)\]]*$/)[0].length;
  const url = text.slice(0, text.length - end);
  return [...address(url), text.slice(url.length)];
}

// A rule that found no end does not look again: else a line of stars would be read once for each star.
const TRIES_MAX = 100;

export function words(text, depth = 0) {
  const out = [];
  const tries = new Map();
  let plain = "";
  const flush = () => {
    if (plain !== "") out.push(plain);
    plain = "";
  };
  for (let i = 0; i < text.length;) {
    const found = depth < DEPTH_MAX ? take(text, i, depth, tries) : null;
    if (found === null) {
      plain += text[i++];
      continue;
    }
    flush();
    out.push(...found.nodes.filter((n) => n !== ""));
    i = found.end;
  }
  flush();
  return out;
}

function take(text, i, depth, tries) {
  for (const rule of rules) {
    if (text[i] !== rule.at || (rule.apart && i > 0 && /\w/.test(text[i - 1]))) continue;
    const failed = tries.get(rule) ?? 0;
    if (failed > TRIES_MAX) continue;
    rule.match.lastIndex = i;
    const m = rule.match.exec(text);
    if (m === null) {
      tries.set(rule, failed + 1);
      continue;
    }
    const end = rule.match.lastIndex;
    return { nodes: rule.make(m, depth + 1), end };
  }
  return null;
}
