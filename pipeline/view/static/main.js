// Starts the page: asks what the build is, shows the view that the address names, and listens to keys.

import { button, count, fill, find, make, plural, toast } from "./dom.js";
import { ask, latest, tell } from "./api.js";
import { go, link, listen, state } from "./state.js";
import { Grid } from "./grid.js";
import { setFields, setUpSearch, showFacets, showQuery } from "./search.js";
import { approve, edit, keepOther, keepThis, onDecision, reject, showCount, undo } from "./decide.js";
import { closePanel, enlargeShown, openPanel, refreshPanel, setActions, shownRecord, unveil } from "./panel.js";
import { VIEWS, SEARCHED } from "./views.js";
import { showHelp } from "./help.js";

const NAMES = [["records", "Records"], ["overview", "Overview"], ["borderline", "Borderline"], ["duplicates", "Duplicates"], ["corrections", "Corrections"], ["safety", "Safety"], ["charts", "Charts"], ["map", "Map"], ["beside", "Beside"]];
const failed = (error) => toast(error.message, true);
const dialog = find("#dialog");
let build = null, focused = null;

const grid = new Grid(find("#scroller"), find("#wall"), {
  failed,
  select: (card) => { if (!find("#panel").hidden) later(card.key); },
  open: (card) => card && go({ key: card.key }, true),
});
let waiting = 0;
const later = (key) => { clearTimeout(waiting); waiting = setTimeout(() => go({ key }, true), 60); };

const showRecords = latest(async (current) => {
  const total = await grid.show(state.q, state.sort, state.key);
  if (!current() || total === undefined) return;
  document.body.dataset.shown = "records";
  find("#found").classList.remove("bad");
  find("#found").textContent = `${plural(total, "record")}${total < build.count ? ` of ${count(build.count)}` : ""}`;
}, (error) => { find("#found").textContent = error.message; find("#found").classList.add("bad"); });

const showView = latest(async (current) => {
  const view = find("#view"), made = await VIEWS[state.view](build);
  if (!current()) return;
  fill(view, made);
  document.body.dataset.shown = state.view;
}, failed);

function show(changed) {
  const records = state.view === "records", searched = records || SEARCHED.has(state.view);
  if (changed.includes("view")) {
    document.body.dataset.view = state.view;
    for (const one of document.querySelectorAll(".views a")) {
      if (one.dataset.view === state.view) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
    }
    find(".search").hidden = !searched;
    find("#scroller").hidden = !records;
    find("#view").hidden = records;
    find("#view").scrollTop = 0;
    focused = null;
  }
  if (changed.some((name) => ["q", "sort", "view"].includes(name))) showQuery();
  if (changed.some((name) => ["q", "view", "also"].includes(name)) && searched) showFacets();
  if (records && changed.some((name) => ["q", "sort", "view"].includes(name))) showRecords();
  if (!records && changed.some((name) => !["key", "sort", "also"].includes(name))) { if (!VIEWS[state.view].keeps?.(changed)) showView(); }
  if (changed.includes("key")) { if (state.key) openPanel(state.key); else if (!find("#panel").hidden) closePanel(); }
  for (const one of document.querySelectorAll(".views a")) one.href = link({ view: one.dataset.view, key: "" });
}

/** The card that a key is about: that of the focused tile, else the open record, else the wall's selection. */
function current() {
  if (focused?.isConnected) return focused.card;
  return shownRecord() ?? (state.view === "records" ? grid.selected : null);
}

async function act(verb) {
  if (verb === "undo") return undo();
  const card = current();
  if (!card) { toast("no record is selected"); return null; }
  if (verb === "keep" && focused?.isConnected) return keepThis(card.key);
  if (verb === "keep") return keepOther(card, (cluster) => go({ view: "records", q: `${cluster.field}:="${cluster.cluster}"`, sort: "", key: "" }));
  const done = await { approve, reject, edit }[verb](card);
  if (done?.key && state.view === "records" && verb !== "edit" && grid.selected?.key === done.key) grid.move(grid.at + 1);
  return done;
}

onDecision((key, decision) => {
  grid.update(key, { decision });
  for (const tile of document.querySelectorAll("#view .tile")) if (tile.card?.key === key) { tile.card.decision = decision; tile.refill?.(); }
  refreshPanel(key);
  showFacets();
});
setActions({ decide: act, step: (by) => { if (state.view === "records") grid.move(grid.at + by); else stepTile(by); } });

function stepTile(by) {
  const tiles = [...document.querySelectorAll("#view .tile")], at = tiles.indexOf(focused ?? document.activeElement);
  const next = tiles[at + by];
  if (next) { next.focus(); if (!find("#panel").hidden) go({ key: next.card.key }, true); }
}

find("#view").addEventListener("focusin", (event) => { focused = event.target.closest(".tile"); });
find("#view").addEventListener("click", (event) => {
  const tile = event.target.closest(".tile");
  if (tile?.card) { focused = tile; go({ key: tile.card.key }, true); }
});
find("#wall").addEventListener("focus", () => { focused = null; });

const DO = { a: () => act("approve"), r: () => act("reject"), e: () => act("edit"), k: () => act("keep"), u: () => act("undo"), v: unveil, o: enlargeShown,
  "/": () => find("#q").focus(), "?": () => showHelp(build), f: () => find("#filters").click() };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) { event.preventDefault(); find("#wall").focus(); } // Chromium would empty the search
    else if (document.body.classList.contains("filters-open")) find("#filters").click();
    else closePanel();
    return;
  }
  if (typing) { if (event.key === "ArrowDown" && event.target.id === "q") { event.preventDefault(); find("#wall").focus(); } return; }
  if (/^[1-9]$/.test(event.key)) { go({ view: NAMES[event.key - 1][0], key: "" }); return; }
  if (event.key === "Enter" && event.target.id === "wall" && grid.selected) { go({ key: grid.selected.key }, true); return; }
  if (DO[event.key]) { event.preventDefault(); DO[event.key](); return; }
  const inPanel = find("#panel").contains(event.target);
  if (state.view === "records" && !(inPanel && /^(ArrowUp|ArrowDown|Page|Home|End)/.test(event.key))) {
    if (grid.key(event.key)) event.preventDefault();
  } else if (/^Arrow(Left|Right)$/.test(event.key)) stepTile(event.key === "ArrowLeft" ? -1 : 1);
});

function setBuild(given) {
  build = given;
  setFields(build.fields);
  document.title = `${build.name} · surd view`;
  find("#name").textContent = build.name;
  find("#name").title = build.root;
  showCount(build.decisions);
  fill(find(".views"), NAMES.filter(([name]) => name !== "beside" || build.beside).map(([name, label]) => make("a", {
    href: link({ view: name, key: "" }), "data-view": name, click: (event) => { event.preventDefault(); go({ view: name, key: "" }); },
  }, label)));
}

async function watch() {
  try { find("#grown").hidden = !(await ask("state")).grown; } catch { /* the server has ended: what is shown stays */ }
}
find("#grown").addEventListener("click", async () => {
  find("#grown").textContent = "reading …";
  try { setBuild(await tell("reload")); find("#grown").hidden = true; show(["view", "q"]); } catch (error) { failed(error); }
  find("#grown").textContent = "The build has grown: read it again";
});
find("#decided").addEventListener("click", () => go({ view: "records", q: "decision:any", key: "" }));
find("#help-button").addEventListener("click", () => showHelp(build));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

listen(show);
setUpSearch();
try {
  setBuild(await ask("build"));
  if (!VIEWS[state.view] && state.view !== "records") state.view = "records";
  show(["view", "q", ...(state.key ? ["key"] : [])]);
  find("#wall").focus({ preventScroll: true });
  setInterval(watch, 15000);
} catch (error) { failed(error); }
document.documentElement.dataset.ready = "yes";
