// keep: what the browser remembers for the page; for as long as the page is open where it is told to remember nothing.

function storeOr(name) {
  try {
    window[name].setItem("shoal.try", "");
    window[name].removeItem("shoal.try");
    return window[name];
  } catch {
    return null;
  }
}

class Keep {
  constructor(name) {
    this.store = storeOr(name);
    this.memory = new Map();
  }

  get(name) {
    return this.store?.getItem(name) ?? this.memory.get(name) ?? null;
  }

  // Whether it was kept: a browser has room for a few megabytes.
  set(name, value) {
    if (this.store === null) this.memory.set(name, value);
    try {
      this.store?.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  }

  remove(name) {
    this.store?.removeItem(name);
    this.memory.delete(name);
  }

  names() {
    return this.store === null ? [...this.memory.keys()] : Object.keys(this.store);
  }
}

export const local = new Keep("localStorage");
export const session = new Keep("sessionStorage");
