// The views beside the wall: overview, borderline, duplicates, corrections, charts, map, and two builds side by side.

import { button, count, fill, find, make, percent, plural, score, spaced, toast } from "./dom.js";
import { ask, latest } from "./api.js";
import { go, link, quote, state } from "./state.js";
import { bars, histogram, plot } from "./charts.js";
import { copy } from "./panel.js";
import { fillTile, makeTile } from "./tile.js";

export const SEARCHED = new Set(["duplicates", "corrections", "charts", "map"]);
const records = (q, sort = "") => ({ view: "records", q, sort, key: "" });

/** A tile that can be focused, on which the keys of decisions work. */
function tileOf(card, note) {
  const node = makeTile("button");
  node.type = "button";
  const refill = () => fillTile(node, node.card);
  node.card = card;
  node.refill = refill;
  refill();
  return make("li", {}, node, note ? make("p", { class: "note" }, note) : null);
}
const row = (cards, notes = () => null) => make("ul", { class: "tiles" }, cards.map((card) => tileOf(card, notes(card))));
const went = (patch) => (event) => { if (event.ctrlKey || event.metaKey) return; event.preventDefault(); go(patch); };
const to = (patch, ...content) => make("a", { href: link(patch), click: went(patch) }, content);

const DOES = {
  collect: "what the source lists", fetch: "images downloaded and verified", decode: "every picture decoded to its end", clean: "prompts parsed and normalised",
  dedup: "one of each image", safety: "what is not work-safe goes", score: "CLIP looks at image and prompt", caption: "the captioner says what it sees",
  rewrite: "the LLM puts the prompt in a sentence", correct: "the sentence that fits best wins, its facts checked", select: "thresholds on the scores",
};

async function overview(build) {
  const found = await ask("suggestions"), whole = build.count || 1, last = build.funnel.at(-1);
  return [
    make("section", {}, make("h2", {}, `What became of ${plural(build.count, "record")}`), make("div", { class: "halves" },
      make("ol", { class: "funnel" }, build.funnel.map((step) => funnelStep(step, whole))),
      make("div", {}, make("h3", {}, "Why records were rejected"), reasons(build, whole)))),
    make("section", {}, make("h2", {}, "Worth a look"), make("ul", { class: "looks" }, found.map((one) => make("li", {},
      to(records(one.query, one.sort), make("b", {}, count(one.count)), make("span", {}, make("span", { class: "what" }, one.title), make("span", { class: "note" }, one.why), make("code", {}, one.query))))))),
    make("section", {}, make("h2", {}, "What this is"), make("dl", { class: "facts" }, Object.entries({ build: build.root, source: build.source, kept: last ? `${count(last.left)} (${percent(last.left, whole)})` : "", ...build.models })
      .filter(([, value]) => value).map(([name, value]) => [make("dt", {}, name), make("dd", { dir: "auto" }, value)]))),
  ];
}

function funnelStep(step, whole) {
  const lost = step.came - step.left, open = records(lost ? `stage:=${quote(step.stage)}` : "");
  const bar = make("svg", { class: "bar", "aria-hidden": "true", focusable: "false" },
    make("rect", { class: "kept", width: `${(100 * step.left) / whole}%`, height: "100%" }),
    make("rect", { class: "lost", x: `${(100 * step.left) / whole}%`, width: `${(100 * lost) / whole}%`, height: "100%" }));
  return make("li", { class: lost ? "" : "quiet" }, make("span", { class: "stage" }, step.stage),
    lost ? make("a", { href: link(open), click: went(open), title: `The ${count(lost)} that ${step.stage} rejected`, "aria-label": `${count(lost)} rejected by ${step.stage}` }, bar) : bar,
    make("span", { class: "count" }, count(step.left)),
    make("span", { class: "does" }, lost ? step.rejected.map(([reason, n], at) => [at ? ", " : "", to(records(`stage:=${quote(step.stage)} reason:=${quote(reason)}`), make("b", {}, `−${count(n)}`), ` ${spaced(reason)}`)]) : DOES[step.stage],
      step.waiting ? make("span", {}, ` · ${count(step.waiting)} not there yet`) : null));
}

function reasons(build, whole) {
  const all = build.funnel.flatMap((step) => step.rejected.map(([reason, n]) => [step.stage, reason, n]));
  if (!all.length) return make("p", { class: "note" }, "No record was rejected.");
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Reasons" }, make("table", { class: "losses" },
    make("thead", {}, make("tr", {}, ["Reason", "Stage", "Records", "Share"].map((name, at) => make("th", { scope: "col", class: at > 1 ? "num" : "" }, name)))),
    make("tbody", {}, all.map(([stage, reason, n]) => make("tr", {},
      make("th", { scope: "row" }, make("a", { class: "tag", href: link(records(`reason:=${quote(reason)}`)), click: went(records(`reason:=${quote(reason)}`)) }, spaced(reason)), make("span", { class: "meaning" }, build.reasons[reason])),
      make("td", {}, stage), make("td", { class: "num" }, count(n)), make("td", { class: "num" }, percent(n, whole)))))));
}

const shellQuoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The score whose threshold decides anything; the simple one where neither does. */
const decisive = ({ thresholds }) => (thresholds.simple <= -1 && thresholds.complex > -1 ? "complex" : "simple");
const limits = (least) => ["simple", "complex"].filter((name) => least[name] > -1).map((name) => `a ${name} score of at least ${least[name].toFixed(3)}`).join(" and ");

async function borderline(build) {
  const by = state.by || decisive(build);
  const least = { simple: Number(state.simple || build.thresholds.simple), complex: Number(state.complex || build.thresholds.complex) };
  const body = make("div", {}), figure = make("figure", { class: "lone-figure" }), said = make("p", { class: "lead small", "aria-live": "polite" });
  const load = latest(async (current) => {
    const found = await ask("borderline", { by, ...least, count: 12 });
    if (!current()) return;
    const start = found.low ?? 0, end = found.high ?? 1, step = (end - start) / 400 || 0.001;
    const slider = make("input", { type: "range", min: start - step, max: end + step, step, value: least[by], "aria-label": `Least ${by} score`, input: (event) => { least[by] = Number(event.target.value); tellKept(); redraw(found); move(); } });
    fill(figure, make("figcaption", {}, make("h3", {}, `Threshold on the ${by} score`), make("p", { class: "legend" }, `${count(found.judged)} records came to select`)), make("div", { class: "chart-box" }), slider);
    redraw(found);
    showSides(found);
    tellKept();
    slider.focus({ preventScroll: true });
  }, (error) => toast(error.message, true));
  const redraw = (found) => fill(find(".chart-box", figure), histogram({ name: `score.${by}`, low: found.low ?? 0, high: found.high ?? 1, counts: found.histogram }, { at: least[by], wide: innerWidth > 700 }));
  const showSides = (found) => fill(body, [["above", "Just above", "No record scores as much."], ["below", "Just below", "No record scores less."]].map(([side, title, none]) => make("section", {}, make("h2", {}, title),
    found[side].length ? row(found[side], (card) => score(card[`score.${by}`])) : make("p", { class: "note" }, none))));
  const tellKept = latest(async (current) => {
    const { kept } = await ask("kept", least);
    if (!current()) return;
    const changed = ["simple", "complex"].filter((name) => least[name] !== build.thresholds[name]);
    const command = `surd select ${shellQuoted(build.root)} ${changed.map((name) => `--param select.min_clip_${name}=${least[name].toFixed(4)} --param select.false_match_rate_${name}=null`).join(" ")}`.trim();
    fill(said, "Kept ", make("b", {}, count(kept)), ` of ${count(build.count)}${limits(least) ? ` with ${limits(least)}` : ", whatever their scores"}`, build.exact ? ". " : " before semantic duplicates go and limits and filters are asked. ",
      build.exact ? null : button("count exactly", async () => { const exact = await ask("kept", { ...least, exactly: "yes" }); fill(said, "Kept ", make("b", {}, count(exact.kept)), " exactly."); }, { class: "link" }),
      button(command, () => copy(command), { class: "command", title: "Copy" }));
  }, (error) => toast(error.message, true));
  let waiting = 0;
  const move = () => {
    clearTimeout(waiting);
    waiting = setTimeout(latest(async (current) => {
      const found = await ask("borderline", { by, ...least, count: 12 });
      if (!current()) return;
      showSides(found);
      go({ [by]: String(Number(least[by].toFixed(4))) }, true);
    }, (error) => toast(error.message, true)), 150);
  };
  await load();
  return [make("h2", { class: "sr" }, "Borderline"), make("div", { class: "chooser", role: "group", "aria-label": "Score" }, ["simple", "complex"].map((name) => button(`${name} score`, () => go({ by: name }), { class: "chip", "aria-pressed": String(by === name) }))), make("div", { class: "halves" }, figure, said), body];
}

async function duplicates() {
  const list = make("div", { class: "clusters" }), head = make("p", { class: "note" });
  let start = 0;
  const more = button("more clusters", () => load(), { class: "main-button", hidden: true });
  const NAMES = { image: "of like pictures", prompt: "of almost the same prompt", semantic: "that show the same" };
  async function load() {
    const found = await ask("clusters", { kind: state.kind, q: state.q, start, count: 12 });
    start += found.clusters.length;
    head.textContent = found.total ? `${plural(found.total, "cluster")} ${NAMES[state.kind]}, ${count(found.members)} records. The first of each is kept; focus another and press k to keep that one instead.` : "No record has a twin here.";
    more.hidden = start >= found.total;
    list.append(...found.clusters.map((one) => make("section", { class: "cluster" }, make("h3", {}, plural(one.count, "record"), " ", to(records(`${found.field}:=${quote(one.cluster)}`), "all on one screen")),
      row(one.cards, (card) => [card.key === one.cluster ? "stands for them" : card.status === "kept" ? "kept too" : "rejected", card.width ? ` · ${card.width} × ${card.height}` : ""].join("")))));
  }
  await load();
  return [make("h2", { class: "sr" }, "Duplicates"), make("div", { class: "chooser", role: "group", "aria-label": "Kind of cluster" }, Object.keys(NAMES).map((name) => button(name === "image" ? "pictures" : name === "prompt" ? "prompts" : "meaning", () => go({ kind: name }), { class: "chip", "aria-pressed": String(state.kind === name) }))), head, list, more];
}

async function corrections() {
  const list = make("ol", { class: "repairs" }), head = make("div", {});
  let start = 0;
  const more = button("more sentences", () => load(), { class: "main-button", hidden: true });
  async function load() {
    const found = await ask("corrections", { q: state.q, start, count: 24 });
    if (!start) {
      fill(head, make("p", { class: "note" }, found.total ? `${plural(found.total, "sentence")} had facts repaired. The numbers say how probable the fact was, and is now.` : "No fact was repaired here."),
        found.kinds.length ? make("div", { class: "chooser" }, found.kinds.map(([kind, n]) => button([`${kind} `, make("i", {}, count(n))], () => go({ q: `correct.repairs:${quote(`${kind}: `)}` }), { class: "chip" }))) : null);
    }
    start += found.entries.length;
    more.hidden = start >= found.total;
    list.append(...found.entries.map(repair));
  }
  await load();
  return [make("h2", { class: "sr" }, "Corrections"), head, list, more];
}

const marked = (runs, tag) => runs.map(([text, changed], at) => [at ? " " : "", changed ? make(tag, {}, text) : text]);
function repair(entry) {
  const tile = tileOf(entry.card);
  return make("li", { class: "repair" }, make("div", { class: "one-tile" }, ...tile.childNodes), make("div", {},
    make("div", { class: "sides" },
      entry.before.length ? [make("span", { class: "old", dir: "auto" }, marked(entry.before, "del")), make("span", { class: "num" }, score(entry.score_before))] : null,
      make("span", { dir: "auto" }, marked(entry.after, "ins")), make("span", { class: "num gain better" }, score(entry.score_after))),
    make("p", { class: "fixes" }, entry.repairs.map(([group, old, now, evidence]) => make("span", { dir: "auto" }, `${group}: ${old}`, now ? [" → ", make("b", {}, now)] : null, evidence ? make("span", { class: "num" }, ` (${evidence.replace("->", "→")})`) : null))),
    make("p", { class: "complex-text", dir: "auto", title: "Complex prompt" }, entry.complex)));
}

async function safety(build) {
  const near = { q: "status:kept nsfw:>0", sort: "nsfw-" }, gone = { q: "veiled:yes", sort: "nsfw-" };
  const [measured, kept, veiled] = await Promise.all([ask("histogram", { field: "nsfw" }), ask("page", { ...near, count: 24 }), ask("page", { ...gone, count: 24 })]);
  const part = (title, said, found, search) => make("section", {}, make("h2", {}, title), make("p", { class: "note" }, said, " ", to(records(search.q, search.sort), `all ${count(found.total)}`)),
    found.total ? row(found.cards, (card) => (card.nsfw === null ? "by the prompt or the source" : `probability ${card.nsfw.toFixed(2)}`)) : null);
  return [
    measured.count ? make("figure", { class: "lone-figure" }, make("figcaption", {}, make("h2", {}, "Probability that a picture is not work-safe"), make("p", { class: "legend" }, `${count(measured.count)} pictures were judged; more than ${build.max_nsfw} is rejected`)), histogram(measured, { at: build.max_nsfw, wide: innerWidth > 700, below: true })) : make("p", { class: "note" }, "No picture was judged in this build."),
    part("Kept, nearest to the limit", "Shown as they are: the build keeps them.", kept, near),
    part("Not shown", "Judged not work-safe, or a copy of such a picture. The server sends none of them until you ask for one: open it and press v.", veiled, gone),
  ];
}

const RANKED = [["licence", "Licences"], ["author", "Authors"], ["bucket", "Aspect buckets"], ["host", "Sites"], ["tool", "Tools that wrote the files"], ["method", "Where the sentence came from"]];
const MEASURED = [["gain", "Gain of the simple sentence"], ["short", "Shorter side, pixels"], ["aspect", "Width over height"], ["words", "Words of the sentence"], ["tokens", "CLIP tokens of the prompt"], ["nsfw", "Not work-safe, probability"], ["sharpness", "Sharpness"], ["brisque", "BRISQUE"], ["clip_iqa", "CLIP-IQA"], ["colourfulness", "Colourfulness"], ["entropy", "Entropy, bits"], ["text_area", "Text, share of the picture"], ["watermark", "Watermark, probability"], ["aesthetic", "Aesthetic score"]];
async function charts(build) {
  const numbers = build.fields.filter((one) => one.kind === "number" && !one.stored);
  const choose = (axis) => make("select", { "aria-label": `${axis} axis`, change: (event) => go({ [axis]: event.target.value }) }, numbers.map((one) => make("option", { value: one.name, selected: state[axis] === one.name }, one.name)));
  const [ranked, measured] = await Promise.all([
    Promise.all(RANKED.map(([field]) => ask("ranking", { field, q: state.q }))),
    Promise.all(MEASURED.map(([field]) => ask("histogram", { field, q: state.q }))),
  ]);
  return [make("h2", { class: "sr" }, "Charts"),
    make("figure", { class: "wide" }, make("figcaption", {}, make("h3", {}, "One number against another"), make("p", { class: "legend" }, choose("x"), " against ", choose("y"), make("span", { class: "dot kept-dot" }, "kept"), make("span", { class: "dot lost-dot" }, "rejected"), make("span", {}, "drag over points to see them alone"))),
      await plot({ x: state.x, y: state.y, q: state.q }, { labels: [state.x, state.y], ranges: true })),
    make("div", { class: "charts" },
      measured.map((one, at) => (one.count ? make("figure", {}, make("figcaption", {}, make("h3", {}, MEASURED[at][1])), histogram(one, { search: true })) : null)),
      ranked.map((one, at) => (one.values.some(([value]) => value !== null) ? make("figure", {}, make("figcaption", {}, make("h3", {}, RANKED[at][1])), bars(one)) : null))),
  ];
}

const MAPS = {
  pca: "The two directions in which the embeddings differ most (PCA). Near points look alike. ",
  umap: "Pictures that look alike are neighbours (UMAP); how far apart groups lie says little. ",
};
async function map(build) {
  const by = build.umap && state.map === "umap" ? "umap" : "pca", drawn = () => plot({ of: "map", by, q: state.q }, { labels: ["", ""], tall: true });
  const chooser = build.umap
    ? make("div", { class: "chooser", role: "group", "aria-label": "Kind of map" }, Object.keys(MAPS).map((name) => button(name.toUpperCase(), () => go({ map: name }), { class: "chip", "aria-pressed": String(by === name) })))
    : make("p", { class: "note" }, "For a second map, by UMAP: ", make("code", {}, "pip install 'surd[umap]'"));
  return [make("h2", { class: "sr" }, "Map"), chooser, make("figure", { class: "wide" }, make("figcaption", {}, make("h3", {}, "Pictures by what CLIP sees"), make("p", { class: "legend" },
    MAPS[by], make("span", { class: "dot kept-dot" }, "kept"), make("span", { class: "dot lost-dot" }, "rejected"))), by === "pca" ? await drawn() : await whenReady(by, drawn))];
}

/** The map, or a sentence in whose place it stands once it is computed. */
async function whenReady(by, drawn) {
  const said = make("p", { class: "note", role: "status" }, "UMAP is being computed: half a minute, and a second more for every thousand pictures.");
  const look = async () => {
    try {
      if ((await ask("map", { by })).ready) return await drawn();
      setTimeout(async () => { if (said.isConnected) said.replaceWith(await look()); }, 1000);
    } catch (error) { said.textContent = error.message; }
    return said;
  };
  return look();
}

async function beside(build) {
  if (!build.beside) return [make("p", { class: "lead small" }, "Start surd view with --beside OTHER to compare two builds.")];
  const found = await ask("comparison"), verdict = (status, reason) => (reason ? spaced(reason) : status);
  const search = ([status, reason, there, why]) => [reason ? `reason:=${quote(reason)}` : `status:=${quote(status)}`, why ? `beside.reason:=${quote(why)}` : `beside.status:=${quote(there)}`].join(" ");
  return [make("section", {}, make("h2", {}, "Beside ", make("span", { dir: "auto" }, build.beside)),
    make("p", { class: "lead small" }, plural(found.only_here, "record"), " here alone, ", count(found.only_there), " there alone; of those both keep, ", to(records("status:kept beside.status:kept beside.changed:yes"), make("b", {}, count(found.changed))), " have another sentence."),
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Verdicts" }, make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Here"), make("th", { scope: "col" }, "There"), make("th", { scope: "col", class: "num" }, "Records"))),
      make("tbody", {}, found.pairs.map((pair) => make("tr", { class: (pair[1] ?? pair[0]) === (pair[3] ?? pair[2]) ? "soft" : "" }, make("td", {}, verdict(pair[0], pair[1])), make("td", {}, verdict(pair[2], pair[3])), make("td", { class: "num" }, to(records(search(pair)), count(pair[4]))))))))) ];
}

export const VIEWS = { overview, borderline, duplicates, corrections, safety, charts, map, beside };
// The slider has shown itself what it changed.
borderline.keeps = (changed) => changed.every((name) => ["simple", "complex", "key"].includes(name));
