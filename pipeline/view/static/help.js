// The keys, the search language, and every field with its meaning.

import { button, fill, find, make } from "./dom.js";

const KEYS = [
  ["← → ↑ ↓", "move"], ["Enter", "open the record"], ["Esc", "close, or leave the search"], ["/", "search"], ["f", "filters"], ["1 … 9", "views"],
  ["a", "approve"], ["r", "reject, with a reason"], ["e", "edit the sentence"], ["k", "keep the other twin, or the focused one"], ["u", "undo"],
  ["o", "picture at its full size"], ["v", "show a veiled picture"], ["?", "this"],
];
const SEARCHES = [
  ["owl", "in the sentence, the prompts or the key"], ['"red owl"', "the phrase"], ["-owl", "without it"], ["author:ada", "a field that has the text"],
  ['licence:="CC0-1.0"', "exactly this"], ["reason:nsfw|mismatch", "one or the other"], ["score.simple:0.2..0.3", "a range; also >0.2, <=512"],
  ["licence:none", "nothing there; :any for anything"], ["-reason:nsfw", "without these"],
];

export function showHelp(build) {
  const dialog = find("#dialog");
  const table = (title, rows) => make("section", {}, make("h3", {}, title), make("dl", { class: "facts" }, rows.map(([left, right]) => [make("dt", {}, make("kbd", {}, left)), make("dd", {}, right)])));
  fill(dialog, make("div", { class: "help" },
    make("div", { class: "panel-top" }, make("h2", { id: "dialog-title" }, "Keys and search"), button("✕", () => dialog.close(), { class: "quiet-button", "aria-label": "Close" })),
    make("div", { class: "halves" }, table("Keys", KEYS), table("Search", SEARCHES)),
    make("h3", {}, "Fields"), make("dl", { class: "facts fields" }, build.fields.map((one) => [make("dt", {}, make("code", {}, one.name)), make("dd", {}, one.title)]))));
  dialog.showModal();
  dialog.scrollTop = 0;
}
