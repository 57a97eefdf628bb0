// theme: the system's colours, or the reader's choice of dark or light.
import { icon } from "./icons.js";
import { local } from "./keep.js";

const NAME = "shoal.theme";
const themes = ["system", "light", "dark"];
const icons = { system: "half", light: "sun", dark: "moon" };

function apply(button) {
  const theme = local.get(NAME) ?? "system";
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.replaceChildren(icon(icons[theme] ?? "half"));
  button.setAttribute("aria-label", `Colours: ${theme}`);
  button.title = button.getAttribute("aria-label");
}

export function startTheme(button) {
  apply(button);
  button.addEventListener("click", () => {
    const now = themes.indexOf(local.get(NAME) ?? "system");
    local.set(NAME, themes[(now + 1) % themes.length]);
    apply(button);
  });
}
