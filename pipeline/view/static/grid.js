// The wall: every record of a result, of which only the rows in sight are nodes. Pages of cards come as they are scrolled to.

import { make } from "./dom.js";
import { ask } from "./api.js";
import { fillTile, makeTile, showPicture } from "./tile.js";

const PAGE = 60, PAGES = 80, GAP = 14, LEAST = 196, TEXT = 85, PAD = 4;
const TALLEST = 8_000_000; // pixels: browsers cut off what is taller

export class Grid {
  constructor(scroller, wall, { select, open, failed }) {
    Object.assign(this, { scroller, wall, select, open, failed, total: 0, at: -1, version: 0 });
    this.pages = new Map(); this.asked = new Map(); this.shown = new Map(); this.free = [];
    this.frame = 0; this.last = 0; this.speed = 0; this.timer = 0;
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroller);
    wall.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) { this.move(tile.at); this.open(this.card(tile.at)); }
    });
  }

  /** Show a result from its start, or from the record that was selected. */
  async show(q, sort, key = "") {
    const version = ++this.version;
    const first = await ask("page", { q, sort, start: 0, count: PAGE });
    if (version !== this.version) return undefined;
    Object.assign(this, { q, sort, total: first.total, at: first.total ? 0 : -1 });
    for (const one of this.asked.values()) one.abort();
    this.pages.clear(); this.asked.clear();
    this.pages.set(0, first.cards);
    this.release(() => true);
    this.scroller.scrollTop = 0;
    const known = key ? first.cards.findIndex((card) => card.key === key) : -1;
    if (known > 0) this.at = known;
    this.measure();
    if (this.at >= 0) this.reveal();
    return first.total;
  }

  card(at) { return this.pages.get(Math.floor(at / PAGE))?.[at % PAGE]; }
  get selected() { return this.card(this.at); }

  /** Put a record's new state in the place of the old one, wherever it is held. */
  update(key, patch) {
    for (const cards of this.pages.values()) for (const card of cards) if (card.key === key) Object.assign(card, patch);
    for (const node of this.shown.values()) if (node.card?.key === key) this.bind(node, node.at);
  }

  measure() {
    const width = this.wall.clientWidth - 2 * PAD;
    if (width <= 0) return;
    const narrow = width < 460;
    this.columns = Math.max(narrow ? 2 : 1, Math.floor((width + GAP) / (LEAST + GAP)));
    this.width = (width - GAP * (this.columns - 1)) / this.columns;
    this.pitch = Math.round(this.width) + TEXT + GAP;
    this.lines = Math.ceil(this.total / this.columns);
    this.full = this.lines * this.pitch + 2 * PAD;
    this.wall.style.height = `${Math.min(this.full, TALLEST)}px`;
    for (const node of this.shown.values()) this.place(node);
    this.draw();
  }

  /** Where the top of sight is on the whole wall: what stands there when the wall is taller than browsers allow. */
  get top() {
    const seen = this.scroller.clientHeight;
    if (this.full <= TALLEST) return this.scroller.scrollTop;
    return (this.scroller.scrollTop / (TALLEST - seen)) * (this.full - seen);
  }

  draw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.render(); });
  }

  render() {
    if (!this.columns) return;
    const top = this.top, height = this.scroller.clientHeight, now = performance.now();
    this.speed = Math.abs(top - (this.lastTop ?? top)) / Math.max(1, now - this.last);
    this.lastTop = top; this.last = now;
    this.shift = this.scroller.scrollTop - top; // 0 unless the wall is scaled
    const first = Math.max(0, Math.floor(top / this.pitch) - 1) * this.columns;
    const end = Math.min(this.total, (Math.ceil((top + height) / this.pitch) + 1) * this.columns);
    this.release((node) => node.at < first || node.at >= end);
    for (let at = first; at < end; at += 1) if (!this.shown.has(at)) this.take(at);
    if (this.shift) for (const node of this.shown.values()) this.place(node);
    this.range = [first, end];
    if (this.speed < 4) this.pictures();
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.fetch(); this.pictures(); }, this.speed < 4 ? 0 : 90);
  }

  release(gone) {
    for (const [at, node] of this.shown) {
      if (!gone(node)) continue;
      this.shown.delete(at); node.hidden = true; node.removeAttribute("id"); this.free.push(node);
    }
  }

  take(at) {
    const node = this.free.pop() ?? this.wall.appendChild(makeTile("li"));
    node.hidden = false;
    this.shown.set(at, node);
    this.bind(node, at);
    this.place(node);
  }

  bind(node, at) {
    const card = this.card(at);
    node.at = at;
    node.id = `r${at}`;
    fillTile(node, card, true);
    node.setAttribute("role", "option");
    if (card) node.removeAttribute("aria-label"); else node.setAttribute("aria-label", "loading");
    node.setAttribute("aria-posinset", at + 1);
    node.setAttribute("aria-setsize", this.total);
    node.setAttribute("aria-selected", String(at === this.at));
  }

  place(node) {
    const line = Math.floor(node.at / this.columns), column = node.at % this.columns;
    node.style.width = `${this.width}px`;
    node.style.height = `${this.pitch - GAP}px`;
    node.style.transform = `translate(${PAD + column * (this.width + GAP)}px, ${PAD + line * this.pitch + (this.shift ?? 0)}px)`;
  }

  pictures() { for (const node of this.shown.values()) showPicture(node); }

  fetch() {
    if (!this.range || !this.total) return;
    const [first, end] = this.range, from = Math.floor(first / PAGE), to = Math.floor((end - 1) / PAGE);
    for (const [page, one] of this.asked) if (page < from - 1 || page > to + 1) { one.abort(); this.asked.delete(page); }
    for (let page = from; page <= Math.min(to + 1, Math.floor((this.total - 1) / PAGE)); page += 1) this.load(page);
  }

  async load(page) {
    if (this.pages.has(page) || this.asked.has(page)) return;
    const one = new AbortController(), version = this.version;
    this.asked.set(page, one);
    try {
      const { cards } = await ask("page", { q: this.q, sort: this.sort, start: page * PAGE, count: PAGE }, one.signal);
      if (version !== this.version) return;
      this.pages.set(page, cards);
      if (this.pages.size > PAGES) this.pages.delete([...this.pages.keys()].find((old) => Math.abs(old - page) > 2));
      for (const [at, node] of this.shown) if (Math.floor(at / PAGE) === page) this.bind(node, at);
      this.pictures();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    } finally {
      if (this.asked.get(page) === one) this.asked.delete(page);
    }
  }

  /** Select the record at a place of the result. */
  async move(at) {
    if (!this.total) return;
    const before = this.shown.get(this.at);
    this.at = Math.max(0, Math.min(this.total - 1, at));
    before?.setAttribute("aria-selected", "false");
    this.reveal();
    if (!this.card(this.at)) await this.load(Math.floor(this.at / PAGE));
    if (this.selected) this.select(this.selected);
  }

  reveal() {
    const line = Math.floor(this.at / this.columns), top = line * this.pitch, height = this.scroller.clientHeight;
    const seen = this.top;
    let wanted = seen;
    if (top < seen) wanted = top;
    else if (top + this.pitch > seen + height) wanted = top + this.pitch - height + PAD;
    if (wanted !== seen) this.scroller.scrollTop = this.full <= TALLEST ? wanted : (wanted / (this.full - height)) * (TALLEST - height);
    this.render();
    this.shown.get(this.at)?.setAttribute("aria-selected", "true");
    this.wall.setAttribute("aria-activedescendant", `r${this.at}`);
  }

  /** Move by a key; whether it was one of the wall's. */
  key(name) {
    const lines = Math.max(1, Math.floor(this.scroller.clientHeight / this.pitch));
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -lines * this.columns,
      PageDown: lines * this.columns, Home: -this.at, End: this.total - 1 - this.at,
    };
    if (!(name in steps)) return false;
    const to = this.at + steps[name];
    if (name.startsWith("Arrow") && (to < 0 || to >= this.total)) return true;
    this.move(to);
    return true;
  }
}
