// code: program text as elements, its words, strings and comments told apart. What it takes for a language is a
// guess; a wrong one costs colours and nothing else.
import { el } from "./dom.js";

const LENGTH_MAX = 40000;

const KEYWORDS = new Set((
  "abstract and as assert async await auto base bool boolean break byte case catch chan char class const " +
  "constexpr continue crate def default defer del delete do double elif else end enum esac except export " +
  "extends extern fallthrough false False fi final finally float fn for foreach from func function global go " +
  "goto if impl implements import in int interface is lambda let long match mod module mut namespace new nil " +
  "none None not null nullptr of operator or override package pass private protected pub public raise readonly " +
  "ref return self Self short signed sizeof static struct super switch template then this throw trait true True " +
  "try type typedef typename typeof uint union unless unsafe unsigned until use using var virtual void volatile " +
  "when where while with yield").split(" "));
const SQL = new Set((
  "select from where insert into values update set delete create table index view join left right inner outer " +
  "on group by order having limit offset union all distinct as and or not null primary key references default " +
  "drop alter add column case when then else end in is like between exists begin commit").split(" "));

const HASH = new RegExp("^(py|python|rb|ruby|sh|bash|zsh|shell|console|yaml|yml|toml|r|perl|pl|make|makefile|cmake|" +
  "dockerfile|ini|conf|nix|jl|julia|elixir)$");
const DASH = /^(sql|lua|haskell|hs|ada|elm)$/;
const MARKUP = /^(html|xml|svg|vue)$/;
const PLAIN = /^(text|txt|plain|plaintext|output|log|md|markdown|)$/;

// Strings and comments end with their line, but for those that may not; what is repeated is unlike what follows.
const LONG = /"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)/;
const STRINGS = /"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.){0,200}'|`(?:[^`\\]|\\[^])*`?/;
const REST = /\b(?:0[xXbB][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?)\b|[A-Za-z_]\w*/;

function comments(language) {
  if (MARKUP.test(language)) return /<!--[^]*?(?:-->|$)/;
  if (HASH.test(language)) return /#[^\n]*/;
  if (DASH.test(language)) return /--[^\n]*/;
  return /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/;
}

function kind(piece, m, language) {
  if (m[1] !== undefined) return "comment";
  if (m[2] !== undefined) return "string";
  if (/^\d/.test(piece)) return "number";
  const known = /^sql/.test(language) ? SQL.has(piece.toLowerCase()) : KEYWORDS.has(piece);
  return known && !MARKUP.test(language) ? "word" : null;
}

// The nodes of the text.
export function coloured(text, language) {
  const name = language.toLowerCase();
  if (PLAIN.test(name) || text.length > LENGTH_MAX) return [text];
  const pieces = new RegExp(`(${comments(name).source})|(${LONG.source}|${STRINGS.source})|${REST.source}`, "g");
  const out = [];
  let at = 0;
  for (const m of text.matchAll(pieces)) {
    const what = kind(m[0], m, name);
    if (what === null) continue;
    if (m.index > at) out.push(text.slice(at, m.index));
    out.push(el(`span.${what}`, {}, m[0]));
    at = m.index + m[0].length;
  }
  return [...out, text.slice(at)];
}
