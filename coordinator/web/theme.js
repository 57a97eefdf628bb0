// theme: the system's colours, or the reader's choice of dark or light.
import { icon } from "./icons.js";

const NAME = "shoal.theme";
const themes = ["system", "light", "dark"];
const icons = { system: "half", light: "sun", dark: "moon" };

function apply(button) {
  const theme = localStorage.getItem(NAME) ?? "system";
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.replaceChildren(icon(icons[theme] ?? "half"));
  button.setAttribute("aria-label", `Colours: ${theme}`);
  button.title = button.getAttribute("aria-label");
}

export function startTheme(button) {
  apply(button);
  button.addEventListener("click", () => {
    const now = themes.indexOf(localStorage.getItem(NAME) ?? "system");
    localStorage.setItem(NAME, themes[(now + 1) % themes.length]);
    apply(button);
  });
}
