// The search box, its terms as buttons, the order, and what can be counted beside the wall.

import { add, button, count, fill, find, make, spaced, toast } from "./dom.js";
import { ask, latest } from "./api.js";
import { go, state, termOf, terms, toggled } from "./state.js";

const ORDERS = [
  ["", "order of collection"], ["random", "random"], ["score.simple-", "simple score, best first"], ["score.simple", "simple score, worst first"],
  ["score.complex-", "complex score, best first"], ["score.complex", "complex score, worst first"], ["gain-", "gain, most first"],
  ["gain", "gain, least first"], ["nsfw-", "least work-safe first"], ["sharpness", "least sharp first"], ["sharpness-", "sharpest first"],
  ["short", "smallest first"], ["short-", "largest first"], ["aspect-", "widest first"], ["aspect", "tallest first"], ["words-", "longest sentence first"],
];
const SHOWN = 8;

export function setUpSearch() {
  const input = find("#q"), order = find("#sort");
  fill(order, ORDERS.map(([value, label]) => make("option", { value }, label)));
  let waiting = 0;
  const search = () => { clearTimeout(waiting); go({ q: input.value.trim(), key: "" }); };
  input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
  input.addEventListener("change", search);
  find(".search").addEventListener("submit", (event) => { event.preventDefault(); search(); find("#wall").focus(); });
  order.addEventListener("change", () => go({ sort: order.value }));
  find("#filters").addEventListener("click", () => {
    const open = document.body.classList.toggle("filters-open");
    find("#filters").setAttribute("aria-expanded", String(open));
  });
}

export function showQuery() {
  const input = find("#q"), order = find("#sort");
  if (document.activeElement !== input) input.value = state.q;
  order.value = state.sort;
  if (order.value !== state.sort) { add(order, make("option", { value: state.sort }, state.sort)); order.value = state.sort; }
  fill(find("#terms"), terms(state.q).map((term) => button([term, make("span", { "aria-hidden": "true" }, " ✕")],
    () => go({ q: toggled(state.q, term), key: "" }), { class: term.startsWith("-") ? "term not" : "term", title: "Leave this out of the search", "aria-label": `Remove ${term}` })),
  terms(state.q).length > 1 ? button("clear", () => go({ q: "", key: "" }), { class: "term clear" }) : null);
}

export const showFacets = latest(async (current) => {
  const also = state.also.split(",").filter(Boolean);
  const [facets, ...more] = await Promise.all([ask("facets", { q: state.q }), ...also.map((field) => ask("ranking", { field, q: state.q }))]);
  if (!current()) return;
  const open = new Set([...document.querySelectorAll(".facet[data-all]")].map((node) => node.dataset.field));
  fill(find("#facets"), more.map(({ name, values }) => (values.length ? facet(name, values, open.has(name)) : null)),
    Object.entries(facets).map(([field, values]) => facet(field, values, open.has(field))), another(also));
}, (error) => toast(error.message, true));

/** Any field can be counted: those that the address names stand above the others. */
function another(also) {
  const choice = make("select", { "aria-label": "Count another field", change: () => go({ also: [...also, choice.value].join(",") }, true) },
    make("option", { value: "" }, "count another field …"), fields.filter((one) => !also.includes(one.name)).map((one) => make("option", { value: one.name }, one.name)));
  return make("div", { class: "another" }, choice, also.length ? button("without these", () => go({ also: "" }, true), { class: "more" }) : null);
}
let fields = [];
export const setFields = (given) => { fields = given; };

function facet(field, values, all) {
  const most = Math.max(...values.map(([, n]) => n));
  const rows = values.map(([value, n], at) => {
    const term = termOf(field, value), on = terms(state.q).includes(term), shown = value === null ? "none" : typeof value === "boolean" ? (value ? "yes" : "no") : spaced(value) || "(empty)";
    const share = make("span", { class: "share" });
    share.style.width = `${(100 * n) / most}%`;
    return make("li", { hidden: at >= SHOWN && !all },
      button([make("span", { class: "name", dir: "auto" }, shown), make("span", { class: "count" }, count(n)), share],
        () => go({ q: toggled(state.q, term), key: "" }), { class: "pick", "aria-pressed": String(on), title: `${field}: ${shown}` }),
      button("−", () => go({ q: toggled(state.q, `-${term}`), key: "" }), { class: "without", title: "Without these", "aria-label": `Without ${field} ${shown}` }));
  });
  const section = make("section", { class: "facet", "data-field": field, "data-all": all }, make("h2", {}, spaced(field)), make("ul", {}, rows));
  if (values.length > SHOWN && !all) {
    const more = button(`${values.length - SHOWN} more`, () => {
      section.dataset.all = "";
      for (const row of rows) row.hidden = false;
      more.remove();
    }, { class: "more" });
    section.append(more);
  }
  return section;
}
