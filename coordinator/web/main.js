// main: puts the page together.
import { Chat } from "./chat.js";
import { Cluster } from "./cluster.js";
import { Composer } from "./composer.js";
import { find } from "./dom.js";
import { icon } from "./icons.js";
import { askForKey } from "./key.js";
import { List } from "./list.js";
import { fillModels } from "./models.js";
import { openSettings } from "./settings.js";
import { openHelp, startShortcuts } from "./shortcuts.js";
import { startTheme } from "./theme.js";

const RETRY_MS = 5000;
const WIDE = matchMedia("(min-width: 54rem)");

// ---- the list beside the chat: a column on wide screens, a drawer on narrow ones ----

function drawer(open) {
  document.body.classList.toggle("listing", open);
  find("open-list").setAttribute("aria-expanded", String(WIDE.matches ? !isNarrowed() : open));
}

function isNarrowed() {
  return document.body.classList.contains("narrowed");
}

function toggleList() {
  if (WIDE.matches) {
    document.body.classList.toggle("narrowed");
    drawer(false);
    return;
  }
  const open = !document.body.classList.contains("listing");
  drawer(open);
  if (open) find("list").querySelector("button").focus();
}

// ---- which view ----

function toChat() {
  location.hash = "#chat";
}

function showView(cluster) {
  const name = location.hash === "#cluster" ? "cluster" : "chat";
  for (const view of ["chat", "cluster"]) {
    find(view).hidden = view !== name;
    if (view === name) find(`tab-${view}`).setAttribute("aria-current", "page");
    else find(`tab-${view}`).removeAttribute("aria-current");
  }
  document.body.classList.toggle("clustered", name === "cluster");
  cluster.seen(name === "cluster");
}

// ---- the server ----

// Until the models are known; asks once for a key where one is wanted.
async function meet(composer, cluster, mayAsk) {
  try {
    await fillModels(composer.models);
    composer.tell();
    cluster.soon();
    return;
  } catch (error) {
    if (error.status === 401 && mayAsk && await askForKey(error.message)) {
      meet(composer, cluster, true);
      return;
    }
    setTimeout(() => meet(composer, cluster, mayAsk && error.status !== 401), RETRY_MS);
  }
}

function start() {
  let list = null;
  let chat = null;
  const composer = new Composer({
    send: (text) => chat.send(text), stop: () => chat.stop(), editLast: () => chat.editLast(),
  });
  chat = new Chat(find("chat"), composer, () => list?.draw());
  list = new List(find("list"), chat, () => { drawer(false); toChat(); });
  list.draw();
  const cluster = new Cluster(find("cluster"), (trouble) => {
    find("alarm").hidden = trouble === "";
    find("tab-cluster").title = trouble;
    composer.trouble(trouble);
  });
  find("open-list").append(icon("menu"));
  find("open-settings").append(icon("gear"));
  find("open-help").append(icon("help"));
  find("open-list").addEventListener("click", toggleList);
  find("shade").addEventListener("click", () => drawer(false));
  find("open-settings").addEventListener("click", openSettings);
  find("open-help").addEventListener("click", openHelp);
  startTheme(find("open-theme"));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address says which view there is
    find("main").focus();
  });
  drawer(false);
  addEventListener("hashchange", () => showView(cluster));
  showView(cluster);
  startShortcuts({
    write: () => { toChat(); composer.focus(); },
    stop: () => { if (document.body.classList.contains("listing")) drawer(false); else chat.stop(); },
    again: () => chat.againLast(), fresh: () => { toChat(); chat.fresh(); },
    newer: () => { toChat(); list.step(-1); }, older: () => { toChat(); list.step(1); },
    chat: toChat, cluster: () => { location.hash = "#cluster"; },
  });
  meet(composer, cluster, true);
  if (WIDE.matches && location.hash !== "#cluster") composer.focus();
}

start();
