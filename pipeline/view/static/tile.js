// One record as a tile: picture, sentence, scores, what became of it and what you decided.

import { make, fill, score, signed, spaced, clean } from "./dom.js";

export const MARKS = { approve: ["✓", "approved"], reject: ["✕", "rejected by you"], edit: ["✎", "edited"], keep: ["⇄", "kept of its twins"] };

export const sentence = (card) => (card.decision?.verdict === "edit" ? card.decision.simple : card.simple) || card.complex || card.prompt || "no prompt";

/** The parts of a tile; the same nodes are filled again with other records. */
export function makeTile(tag) {
  const image = make("img", { alt: "", decoding: "async", draggable: "false" });
  const veil = make("span", { class: "veil" });
  const tag_ = make("span", { class: "tag" }), mark = make("span", { class: "mark" });
  const words = make("span", { class: "tile-words", dir: "auto" });
  const numbers = make("span", { class: "tile-numbers" });
  const picture = make("span", { class: "tile-picture" }, image, veil, tag_, mark);
  const node = make(tag, { class: "tile" }, picture, words, numbers);
  image.addEventListener("error", () => { image.removeAttribute("src"); veil.textContent = "no picture"; veil.hidden = false; });
  node.parts = { image, veil, tag: tag_, mark, words, numbers };
  return node;
}

/** Fill a tile. With ``later`` its picture is not asked for yet: ``showPicture`` does that. */
export function fillTile(node, card, later = false) {
  const { image, veil, tag, mark, words, numbers } = node.parts;
  node.card = card;
  image.removeAttribute("src");
  node.wanted = "";
  node.classList.toggle("waiting", !card);
  node.className = `tile${card ? ` ${card.status}` : " waiting"}${card?.decision ? ` by-hand ${card.decision.verdict}` : ""}`;
  if (!card) { words.textContent = ""; numbers.textContent = ""; tag.hidden = mark.hidden = true; veil.hidden = true; return; }
  veil.hidden = card.picture && !card.veiled;
  veil.textContent = card.veiled && card.picture ? "not shown" : "no picture";
  veil.classList.toggle("veiled", card.veiled && card.picture);
  if (card.picture && !card.veiled) node.wanted = `thumbnail/${card.key}`;
  tag.hidden = card.status === "kept";
  tag.textContent = card.reason ? spaced(card.reason) : card.status;
  mark.hidden = !card.decision;
  fill(mark, card.decision ? [make("span", { "aria-hidden": "true" }, MARKS[card.decision.verdict][0]), make("span", { class: "sr" }, MARKS[card.decision.verdict][1])] : null);
  mark.title = card.decision ? MARKS[card.decision.verdict][1] : "";
  words.textContent = clean(sentence(card));
  fill(numbers, [
    card["score.simple"] === null ? null : make("span", { class: "dot simple", title: "CLIP score of the simple sentence" }, score(card["score.simple"])),
    card["score.complex"] === null ? null : make("span", { class: "dot complex", title: "CLIP score of the complex prompt" }, score(card["score.complex"])),
    card.gain === null || card.gain === undefined ? (card.width ? make("span", { class: "end" }, `${card.width} × ${card.height}`) : null)
      : make("span", { class: `end gain ${card.gain < 0 ? "worse" : "better"}`, title: "What the simple sentence gains" }, signed(card.gain)),
  ]);
  if (!later) showPicture(node);
}

export function showPicture(node) {
  if (node.wanted && node.parts.image.getAttribute("src") !== node.wanted) node.parts.image.setAttribute("src", node.wanted);
}

/** What a screen reader says of a tile. */
export const spoken = (card) => clean(`${sentence(card)}. ${card.reason ? `Rejected: ${spaced(card.reason)}` : card.status}${card.decision ? `, ${MARKS[card.decision.verdict][1]}` : ""}`);
