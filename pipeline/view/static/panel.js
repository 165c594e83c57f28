// The record that is open: its picture, its sentences, why it was kept or not, and every field that it has.

import { button, clean, count, fill, find, make, outward, score, spaced, toast } from "./dom.js";
import { ask, latest } from "./api.js";
import { go, quote, state } from "./state.js";
import { MARKS } from "./tile.js";

const panel = find("#panel");
let record = null, actions = {};
export const setActions = (given) => { actions = given; };
export const shownRecord = () => (panel.hidden ? null : record);

export function closePanel() {
  panel.hidden = true;
  document.body.classList.remove("panel-open");
  if (state.key) go({ key: "" }, true);
}

export const openPanel = latest(async (current, key) => {
  const found = await ask("record", { key });
  if (!current()) return;
  record = found;
  panel.hidden = false;
  document.body.classList.add("panel-open");
  draw();
  panel.scrollTop = 0;
}, (error) => toast(error.message, true));

export const refreshPanel = (key) => { if (!panel.hidden && record?.key === key) openPanel(key); };

const section = (title, ...content) => make("section", { class: "part" }, make("h3", {}, title), content);
const prose = (title, text, plain = false) => (text ? section(title, make("p", { class: plain ? "keywords" : "", dir: "auto" }, text)) : null);

function draw() {
  const unveiled = { asked: false };
  fill(panel,
    make("div", { class: "panel-top" },
      make("code", { class: "panel-key" }, record.key),
      button("copy", () => copy(record.key), { class: "quiet-button" }),
      button("←", () => actions.step(-1), { class: "quiet-button", "aria-label": "Previous record" }),
      button("→", () => actions.step(1), { class: "quiet-button", "aria-label": "Next record" }),
      button("✕", closePanel, { class: "quiet-button", "aria-label": "Close" })),
    picture(unveiled),
    decisions(),
    make("h2", { class: "panel-sentence", dir: "auto" }, (record.decision?.verdict === "edit" ? record.decision.simple : record.texts.simple) || "No simple sentence"),
    record.decision?.verdict === "edit" ? prose("Sentence before you edited it", record.texts.simple) : null,
    verdict(), meters(), prose("Complex prompt, cleaned", record.texts.complex, true), corrected(), candidates(), twins(), beside(),
    record.texts.prompt !== record.texts.complex ? prose("Prompt as it was found", record.texts.prompt, true) : null,
    prose("Negative prompt", record.texts.negative, true), facts());
}

function picture(unveiled) {
  const box = make("div", { class: "panel-picture" });
  const show = () => {
    const asked = record.veiled ? "?unveil=yes" : "";
    const image = make("img", { alt: record.texts.simple ?? "", src: `picture/${record.key}${asked}`, decoding: "async" });
    image.addEventListener("error", () => fill(box, make("p", {}, "The stored picture cannot be shown.")));
    fill(box, button(image, () => enlarge(image.src), { class: "plain", title: "At its full size (o)", "aria-label": "Show the picture at its full size" }));
  };
  box.unveil = () => { unveiled.asked = true; show(); };
  if (!record.picture) fill(box, make("p", {}, "No picture that decodes."));
  else if (record.veiled) fill(box, make("p", {}, "Judged not work-safe, so it was not sent."), button([make("kbd", {}, "v"), " show it"], box.unveil, { class: "quiet-button" }));
  else show();
  return make("div", {}, box, make("p", { class: "meta" },
    record.width ? `${record.width} × ${record.height} ${record.ext ?? ""}` : "", outward(record.links.page, "page ↗"), outward(record.links.image, "original ↗")));
}
export const unveil = () => find(".panel-picture", panel)?.unveil?.();
export const enlargeShown = () => { const image = find(".panel-picture img", panel); if (image) enlarge(image.src); };

function enlarge(address) {
  const dialog = find("#dialog");
  fill(dialog, make("h2", { id: "dialog-title", class: "sr" }, "The picture at its full size"),
    make("div", { class: "full" }, make("img", { src: address, alt: record.texts.simple ?? "" })), button("Close", () => dialog.close(), { class: "quiet-button" }));
  dialog.showModal();
}

const DECISIONS = [["a", "approve", "Approve"], ["r", "reject", "Reject"], ["e", "edit", "Edit"], ["k", "keep", "Keep twin"], ["u", "undo", "Undo"]];
function decisions() {
  const now = record.decision;
  return make("div", {}, make("div", { class: "decide", role: "group", "aria-label": "Decide" },
    DECISIONS.map(([key, verb, label]) => button([make("kbd", {}, key), ` ${label}`], () => actions.decide(verb),
      { class: now?.verdict === verb ? `verb ${verb} on` : `verb ${verb}`, "aria-pressed": verb === "undo" ? null : String(now?.verdict === verb) }))),
  now ? make("p", { class: "note decided" }, `${MARKS[now.verdict][0]} ${MARKS[now.verdict][1]}`, now.reason ? `: ${now.reason}` : "", make("span", {}, ` ${now.at.slice(0, 16).replace("T", " ")}`)) : null);
}

function verdict() {
  if (record.status === "kept") return null;
  if (!record.reason) return make("p", { class: "note" }, `Not judged yet: the build has come to ${record.reached} here.`);
  return make("p", { class: "verdict" }, make("b", {}, spaced(record.reason)), ` by ${record.stage}: ${record.meaning ?? ""}. `, record.detail ? make("span", { dir: "auto" }, record.detail) : null);
}

function meters() {
  const rows = [["simple", record["score.simple"]], ["complex", record["score.complex"]]].filter(([, value]) => value !== null);
  if (!rows.length) return null;
  const top = rows.some(([, value]) => value > 0.5) ? 1 : 0.5;
  return section("How well each prompt fits the image", make("div", { class: "bars" }, rows.map(([name, value]) => {
    const bar = make("div", { class: name });
    bar.style.width = `${Math.max(0, Math.min(100, 100 * value / top))}%`;
    return make("div", { class: "meter" }, make("span", { class: `dot ${name}` }, name), make("div", { class: "track" }, bar), make("span", {}, score(value)));
  })));
}

function candidates() {
  const row = record.stages.correct ?? {}, list = row.candidates ?? [], scores = row.candidate_scores ?? [];
  if (!list.length) return null;
  return section("Candidates, best first", make("ol", { class: "candidates" }, list.map((text, at) => make("li", { class: text === record.texts.simple ? "chosen" : "" },
    make("span", { dir: "auto" }, text), make("span", {}, ""), make("span", {}, score(scores[at]))))));
}

function corrected() {
  const row = record.stages.correct ?? {};
  if (!row.repairs?.length) return null;
  return section("What correction repaired", row.before ? make("p", { class: "keywords", dir: "auto" }, row.before) : null,
    make("ul", { class: "repairs-list" }, row.repairs.map((one) => make("li", { dir: "auto" }, one.replaceAll(" -> ", " → ")))));
}

function twins() {
  if (!record.twins.length) return null;
  return section("Its like", make("ul", { class: "twins-list" }, record.twins.map((one) => make("li", {},
    `${count(one.count)} by ${one.kind}: `,
    button("side by side", () => go({ view: "records", q: `${one.field}:=${quote(one.cluster)}`, sort: "" }), { class: "link" }),
    one.others.slice(0, 3).map((key) => [" ", button(key.slice(0, 8), () => go({ key }, true), { class: "link code" })])))));
}

function beside() {
  const other = record.beside;
  if (!other) return null;
  return section("In the other build", make("p", { dir: "auto" }, other.reason ? `rejected: ${spaced(other.reason)}` : other.status, other.changed && other.simple ? `; ${other.simple}` : ""));
}

/** Every column of every stage; a value is a search one click away. */
function facts() {
  return section("Everything known about it", Object.entries(record.stages).map(([stage, row]) => make("details", { class: "fold" },
    make("summary", {}, stage, make("span", { class: "soft" }, ` ${Object.keys(row).length}`)),
    make("dl", { class: "facts" }, Object.entries(row).map(([name, value]) => [make("dt", {}, name), make("dd", { dir: "auto" }, value_(stage, name, value))])))));
}

function value_(stage, name, value) {
  if (Array.isArray(value)) return make("ul", {}, value.slice(0, 50).map((one) => make("li", { dir: "auto" }, typeof one === "string" ? searchable(stage, name, one) : String(one))));
  if (typeof value === "string") return searchable(stage, name, value);
  if (typeof value === "number") return button(String(value), () => go({ view: "records", q: `${stage}.${name}:${value}`, key: "" }), { class: "link plain", title: "Search for it" });
  return String(value);
}
const searchable = (stage, name, text) => (text.length > 160 ? clean(text)
  : button(text, () => go({ view: "records", q: `${stage}.${name}:=${quote(text)}`, key: "" }), { class: "link plain", title: "Search for it" }));

export async function copy(text) {
  try { await navigator.clipboard.writeText(text); toast("copied"); } catch { toast("the browser does not let it be copied", true); }
}
