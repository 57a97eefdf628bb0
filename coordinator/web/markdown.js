// markdown: an answer's text as elements. Everything the model says is text; no string is ever read as HTML.
// A text that grows is drawn again only from the block on that has changed.
import { coloured } from "./code.js";
import { copy, el, fill } from "./dom.js";
import { words } from "./inline.js";

const DEPTH_MAX = 6;
const COLUMNS_MAX = 100;

// None of these may read a long line again and again: what they repeat is bounded or unlike what follows.
const FENCE = /^ {0,3}(`{3,20}|~{3,20})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(\S.*)$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(?:\s+|$)/;
const DELIMITER = /^\s*\|?(?:\s*:?-+:?\s*\|)+\s*(?::?-+:?)?\s*$/;

// ---- blocks: { kind, lines, ... } ----

function begins(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
}

function takeFence(lines, i) {
  const [, fence, info] = lines[i].match(FENCE);
  const language = info.trim().split(/\s/)[0].slice(0, 40);
  const close = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  let end = i + 1;
  while (end < lines.length && !close.test(lines[end])) end++;
  return { kind: "code", language, lines: lines.slice(i + 1, end), end: Math.min(end + 1, lines.length) };
}

function takeWhile(lines, i, kind, goesOn) {
  let end = i + 1;
  while (end < lines.length && goesOn(lines[end], lines[end - 1], lines[end + 1])) end++;
  return { kind, lines: lines.slice(i, end), end };
}

function isTable(lines, i) {
  return lines[i].includes("|") && i + 1 < lines.length && lines[i + 1].length < 2000 && DELIMITER.test(lines[i + 1]);
}

// A list goes on through what is indented, and through one empty line before another item.
function takeList(lines, i) {
  return takeWhile(lines, i, "list", (line, before, after) => {
    if (ITEM.test(line) && !RULE.test(line)) return true;
    if (line.trim() === "") return after !== undefined && (ITEM.test(after) || /^\s{2,}\S/.test(after));
    return /^\s{2,}\S/.test(line) || (before.trim() !== "" && !begins(line));
  });
}

function take(lines, i) {
  const line = lines[i];
  if (FENCE.test(line)) return takeFence(lines, i);
  if (HEADING.test(line)) return { kind: "heading", lines: [line], end: i + 1 };
  if (RULE.test(line)) return { kind: "rule", lines: [line], end: i + 1 };
  if (QUOTE.test(line)) return takeWhile(lines, i, "quote", (next) => QUOTE.test(next));
  if (ITEM.test(line)) return takeList(lines, i);
  if (isTable(lines, i)) return takeWhile(lines, i, "table", (next) => next.includes("|"));
  return takeWhile(lines, i, "words", (next, _, after) =>
    next.trim() !== "" && !begins(next) && !(after !== undefined && isTable([next, after], 0)));
}

function blocksOf(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  for (let i = 0; i < lines.length;) {
    if (lines[i].trim() === "") {
      i++;
      continue;
    }
    const block = take(lines, i);
    block.source = lines.slice(i, block.end).join("\n");
    blocks.push(block);
    i = block.end;
  }
  return blocks;
}

// ---- elements ----

function codeElement(block) {
  const text = block.lines.join("\n");
  const language = block.language || "text";
  return el("div.code", { role: "group", "aria-label": `Code, ${language}` },
    el("div.code-head", {}, el("span", {}, language),
      el("button.small", { type: "button", onclick: () => copy(text) }, "Copy code")),
    el("pre", { tabindex: "0" }, el("code", {}, coloured(text, block.language))));
}

function headingElement(block) {
  const [, marks, text] = block.lines[0].match(HEADING);
  return el(`h${Math.min(marks.length + 2, 6)}`, {}, words(text.trimEnd().replace(/\s#{1,6}$/, "")));
}

function wordsElement(block) {
  const p = el("p");
  block.lines.forEach((line, i) => {
    if (i > 0) p.append(/ {2,}$|\\$/.test(block.lines[i - 1]) ? el("br") : "\n");
    fill(p, words(line.trim().replace(/\\$/, "")));
  });
  return p;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((c) => c.trim().replace(/\\\|/g, "|"));
}

function tableElement(block) {
  const [head, , ...rows] = block.lines.map(cells);
  const row = (tag, line) => el("tr", {}, head.slice(0, COLUMNS_MAX).map((_, i) => el(tag, {}, words(line[i] ?? ""))));
  return el("div.table", { tabindex: "0", role: "group", "aria-label": "Table" },
    el("table", {}, el("thead", {}, row("th", head)), el("tbody", {}, rows.map((r) => row("td", r)))));
}

// The items of a list: their first line's rest and all that is indented below it.
function itemsOf(lines) {
  const base = lines[0].match(ITEM)[1].length;
  const items = [];
  for (const line of lines) {
    const m = line.match(ITEM);
    if (m !== null && m[1].length <= base + 1 && !(items.length > 0 && m[1].length > base))
      items.push({ cut: m[0].length, lines: [line.slice(m[0].length)] });
    else
      items.at(-1).lines.push(line.replace(new RegExp(`^\\s{0,${Math.max(items.at(-1).cut, 2)}}`), ""));
  }
  return items;
}

function listElement(block, depth) {
  const ordered = /\d/.test(block.lines[0].match(ITEM)[2]);
  const start = ordered ? Number.parseInt(block.lines[0].match(ITEM)[2], 10) : null;
  const items = itemsOf(block.lines).map(({ lines }) => {
    const children = elements(lines.join("\n"), depth + 1);
    const lone = children[0]?.tagName === "P" ? [...children[0].childNodes, ...children.slice(1)] : children;
    return el("li", {}, lone);
  });
  return el(ordered ? "ol" : "ul", { start: start === 1 ? null : start }, items);
}

function quoteElement(block, depth) {
  return el("blockquote", {}, elements(block.lines.map((l) => l.replace(QUOTE, "")).join("\n"), depth + 1));
}

function element(block, depth) {
  switch (block.kind) {
    case "code": return codeElement(block);
    case "heading": return headingElement(block);
    case "rule": return el("hr");
    case "quote": return quoteElement(block, depth);
    case "list": return listElement(block, depth);
    case "table": return tableElement(block);
    default: return wordsElement(block);
  }
}

function elements(text, depth) {
  if (depth > DEPTH_MAX) return [el("p", {}, text)];
  return blocksOf(text).map((b) => element(b, depth));
}

// Draws `text` into `box`, keeping the elements of blocks that are as they were.
export function draw(box, text) {
  const blocks = blocksOf(text);
  const old = box.blocks ?? [];
  let same = 0;
  while (same < old.length && same < blocks.length && old[same] === blocks[same].source) same++;
  while (box.children.length > same) box.lastChild.remove();
  fill(box, blocks.slice(same).map((b) => element(b, 0)));
  box.blocks = blocks.map((b) => b.source);
}
