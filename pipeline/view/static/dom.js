// Nodes, numbers and words. Everything scraped enters the page as a text node or a checked attribute, never as markup.

export const find = (selector, root = document) => root.querySelector(selector);
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
export const clean = (text) => String(text).replace(CONTROL, "\ufffd");
export const spaced = (name) => String(name).replaceAll("_", " ");
export const count = (number) => Number(number).toLocaleString("en");
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
export const score = (value) => (value === null || value === undefined ? "" : value.toFixed(3));
export const signed = (value) => (value === null || value === undefined ? "" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`);

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = new Set(["svg", "rect", "line", "path", "circle", "text", "title", "g"]);

/** A node; an attribute that is a function is an event's. */
export function make(tag, attributes = {}, ...children) {
  const node = SHAPES.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : clean(value));
  }
  add(node, children);
  return node;
}

export function add(node, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === "" || child === false) continue;
    node.append(child instanceof Node ? child : clean(child));
  }
  return node;
}

export const fill = (node, ...children) => { node.replaceChildren(); return add(node, children); };

/** A link that leaves: to a web address alone, in a tab that knows nothing of this one. */
export function outward(address, text) {
  if (!/^https?:\/\//i.test(address ?? "")) return null;
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text);
}

export const button = (label, click, attributes = {}) => make("button", { type: "button", click, ...attributes }, label);

let clearing = 0;
export function toast(text, bad = false) {
  const node = find("#toast");
  node.textContent = clean(text);
  node.classList.toggle("bad", bad);
  node.classList.add("on");
  clearTimeout(clearing);
  clearing = setTimeout(() => node.classList.remove("on"), bad ? 6000 : 2400);
}

export function percent(part, whole) {
  const share = whole ? (100 * part) / whole : 0;
  if ((share > 0 && share < 0.5) || (share >= 99.5 && share < 100)) return share < 1 ? "<1%" : ">99%";
  return `${Math.round(share)}%`;
}
