// words: numbers as people read them.

export function count(n) {
  return Math.round(n).toLocaleString("en");
}

// 11.2M, 8.2B
export function short(n) {
  for (const [size, sign] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]])
    if (n >= size) return `${(n / size).toFixed(n >= 100 * size ? 0 : 1)}${sign}`;
  return String(n);
}

export function bytes(n) {
  for (const [size, sign] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]])
    if (n >= size) return `${(n / size).toFixed(n >= 100 * size ? 0 : 1)} ${sign}`;
  return `${n} B`;
}

export function micros(us) {
  if (us < 1000) return `${us.toFixed(0)} µs`;
  return us < 1e6 ? `${(us / 1000).toFixed(us < 1e5 ? 1 : 0)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

export function rate(n) {
  return n.toFixed(n > 0 && n < 10 ? 1 : 0);
}

export function ago(ms) {
  const s = ms / 1000;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}

// Layers from first until last, exclusive: "layer 3", "layers 0–9".
export function layers(first, last) {
  return last - first === 1 ? `layer ${first}` : `layers ${first}–${last - 1}`;
}
