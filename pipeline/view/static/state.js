// What is shown stands in the address after #, so that it can be bookmarked, sent and gone back from.

const DEFAULTS = { view: "records", q: "", sort: "", key: "", by: "", simple: "", complex: "", kind: "image", x: "score.simple", y: "score.complex", map: "pca", also: "" };
export const state = { ...DEFAULTS };
const listeners = [];

export const listen = (listener) => listeners.push(listener);

function read() {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(DEFAULTS)) state[name] = parts.get(name) ?? DEFAULTS[name];
}

export const link = (patch) => {
  const parts = Object.entries({ ...state, ...patch }).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(parts)}`;
};

/** Change what is shown. Another view or search is a step that Back takes back; the rest is not. */
export function go(patch, quietly = false) {
  const before = { ...state };
  Object.assign(state, patch);
  const changed = Object.keys(DEFAULTS).filter((name) => state[name] !== before[name]);
  if (!changed.length) return;
  const step = !quietly && changed.some((name) => ["view", "q"].includes(name));
  history[step ? "pushState" : "replaceState"](null, "", link({}));
  for (const listener of listeners) listener(changed, before);
}

addEventListener("popstate", () => {
  const before = { ...state };
  read();
  const changed = Object.keys(DEFAULTS).filter((name) => state[name] !== before[name]);
  if (changed.length) for (const listener of listeners) listener(changed, before);
});
read();

const TERM = /-?(?:[A-Za-z_][\w.]*:)?=?(?:"(?:[^"\\]|\\.)*"?|[^\s]+)/g;
export const terms = (query) => query.match(TERM) ?? [];
export const quote = (value) => `"${String(value).replace(/[\\"]/g, "\\$&")}"`;
export function termOf(field, value) {
  if (value === null) return `${field}:none`;
  if (typeof value === "boolean") return `${field}:${value ? "yes" : "no"}`;
  return typeof value === "number" ? `${field}:${value}` : `${field}:=${quote(value)}`;
}
/** The query with a term, or without it where it has it. */
export function toggled(query, term) {
  const all = terms(query), opposite = term.startsWith("-") ? term.slice(1) : `-${term}`;
  return (all.includes(term) ? all.filter((one) => one !== term) : [...all.filter((one) => one !== opposite), term]).join(" ");
}
/** The query with a range of a field in the place of an earlier one. */
export const ranged = (query, field, low, high) =>
  [...terms(query).filter((one) => !one.startsWith(`${field}:`)), `${field}:${low}..${high}`].join(" ");
