// icons: line drawings of 24 by 24, as elements.
const paths = {
  menu: "M4 7h16M4 12h16M4 17h16",
  gear: "M4 7h9M17 7h3M4 17h3M11 17h9M13 7a2 2 0 1 0 4 0a2 2 0 1 0-4 0M7 17a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
  help: "M9 9.500a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 18v.01M3 12a9 9 0 1 0 18 0a9 9 0 1 0-18 0",
  sun: "M8 12a4 4 0 1 0 8 0a4 4 0 1 0-8 0M12 3v1.500M12 19.500V21M3 12h1.500M19.500 12H21M5.600 5.600l1 1" +
    "M17.400 17.400l1 1M5.600 18.400l1-1M17.400 6.600l1-1",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z",
  half: "M3 12a9 9 0 1 0 18 0a9 9 0 1 0-18 0M12 3v18M12 7h6M12 12h9M12 17h6",
  send: "M12 20V5M6 11l6-6l6 6",
  stop: "M7 7h10v10H7z",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  again: "M20 12a8 8 0 1 1-2.500-5.800M20 4v4.500h-4.500",
  left: "M15 5l-7 7l7 7",
  right: "M9 5l7 7l-7 7",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  plus: "M12 5v14M5 12h14",
  down: "M12 4v12M6 11l6 6l6-6M5 20h14",
  up: "M12 17V5M6 10l6-6l6 6M5 20h14",
};

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", paths[name]);
  svg.append(path);
  return svg;
}
