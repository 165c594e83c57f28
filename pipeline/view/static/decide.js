// Decisions: one key each, written at once, taken back with u.

import { button, count, fill, find, make, toast } from "./dom.js";
import { ask, tell } from "./api.js";
import { sentence } from "./tile.js";

const REASONS = ["the sentence is wrong", "poor picture", "watermark or text", "a copy of another", "not safe for work", "not wanted here"];
const SAID = { approve: "approved", reject: "rejected", edit: "edited", keep: "kept of its twins" };
let changed = () => {};
export const onDecision = (listener) => { changed = listener; };

export async function decide(document, said) {
  try {
    const done = await tell("decide", document);
    showCount(done.decisions);
    if (done.key) changed(done.key, done.decision);
    toast(said ?? (done.key ? `taken back: ${done.key}` : "nothing to take back: what was decided before this page is changed by deciding again"));
    return done;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

export const showCount = (n) => {
  find("#decided").textContent = n ? `${count(n)} decided` : "none decided";
};

export const approve = (card) => decide({ key: card.key, verdict: "approve" }, `${SAID.approve} · u takes it back`);
export const undo = () => decide({ undo: true });

/** A dialog with a form; resolves with what was entered, or null. */
function asked(title, content, read) {
  const dialog = find("#dialog");
  return new Promise((resolve) => {
    let value = null;
    const send = () => { value = read(); dialog.close(); };
    fill(dialog, make("form", { class: "ask", method: "dialog", submit: (event) => { event.preventDefault(); send(); } },
      make("h2", { id: "dialog-title" }, title), content(send),
      make("div", { class: "actions" }, make("button", { type: "submit", class: "main-button" }, "Save"), button("Cancel", () => dialog.close(), { class: "quiet-button" }))));
    dialog.addEventListener("close", () => resolve(value), { once: true });
    dialog.showModal();
    find("input, textarea", dialog)?.focus();
  });
}

export async function reject(card) {
  const input = make("input", { type: "text", maxlength: 500, "aria-label": "Reason", placeholder: "why, in your words", autocomplete: "off" });
  const reason = await asked("Reject: why?", (send) => [
    make("p", { class: "note", dir: "auto" }, sentence(card)),
    make("div", { class: "reasons" }, REASONS.map((one, at) => button([make("kbd", {}, at + 1), ` ${one}`], () => { input.value = one; send(); }, { class: "reason" }))),
    input,
  ], () => input.value.trim());
  if (reason === null) return null;
  return decide({ key: card.key, verdict: "reject", reason: reason || null }, `${SAID.reject} · u takes it back`);
}

export async function edit(card) {
  const area = make("textarea", { rows: 4, maxlength: 2000, dir: "auto", "aria-label": "Simple sentence", keydown: (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); event.target.form.requestSubmit(); }
  } });
  area.value = card.decision?.verdict === "edit" ? card.decision.simple : card.simple ?? "";
  const simple = await asked("Edit the simple sentence", () => [area, card.complex ? make("p", { class: "keywords", dir: "auto" }, card.complex) : null], () => area.value.trim());
  if (!simple) return null;
  return decide({ key: card.key, verdict: "edit", simple }, `${SAID.edit} · u takes it back`);
}

/** Keep the other twin: of a copy that was rejected, the copy itself; of the one that stands for its cluster, the only other. */
export async function keepOther(card, chooseAmong) {
  const record = await ask("record", { key: card.key });
  const cluster = record.twins.find((one) => one.kind === "image") ?? record.twins[0];
  if (!cluster) { toast("it has no twin"); return null; }
  const other = cluster.cluster === card.key ? cluster.others : [card.key];
  if (other.length > 1) { chooseAmong(cluster); toast(`${count(cluster.count)} twins: press k on the one to keep`); return null; }
  return keepThis(other[0]);
}
export const keepThis = (key) => decide({ key, verdict: "keep" }, `${SAID.keep}: ${key} · u takes it back`);

document.addEventListener("keydown", (event) => {
  const dialog = find("#dialog");
  if (!dialog.open || !/^[1-9]$/.test(event.key) || find("input", dialog)?.value) return;
  const choice = dialog.querySelectorAll(".reason")[Number(event.key) - 1];
  if (choice) { event.preventDefault(); choice.click(); }
});
