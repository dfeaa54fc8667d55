// Nearly identical candidates at once: one verdict key for all that are not taken out.
//
//   const mode = new Groups(desk); await mode.begin(place);

import { get } from "./api.js";
import { chips, tone } from "./candidates.js";
import { clone, fill, make, part, plain } from "./dom.js";
import { editCandidate } from "./editor.js";
import { Feed } from "./feed.js";
import { decoded } from "./decoding.js";
import { REJECT_REASONS, SAID, offerReasons, reasonOf } from "./reasons.js";
import { badge, severity } from "./severity.js";
import { Stopwatch } from "./stopwatch.js";

export class Groups {
  constructor(desk) {
    this.desk = desk;
    this.entries = []; // of the group: {item, out, root}
    this.apart = []; // items that were taken out of a group: each is judged alone
    const ids = () => [...this.entries.map(({ item }) => item), ...this.apart].map((item) => item.candidate);
    const ask = (count, have) => desk.next(count, [...new Set([...have.split(",").filter(Boolean).map(Number), ...ids()])].join(","));
    this.feed = new Feed(ask, "candidate", desk.outbox);
    this.watch = new Stopwatch();
  }

  async begin(place) {
    this.place = place;
    this.entries = [];
    this.apart = [];
    this.feed.clear(); // in other modes some may have been judged
    await this.#forward();
  }

  end() {
    this.place = this.editor = null;
    clearTimeout(this.again);
    this.stage?.stopDrawing();
  }

  act(action) {
    if (this.editor) return false;
    if (action === "undo") return this.#undo();
    if (!this.feed.current || !this.shown) return false;
    if (this.stage.look(action)) return true;
    const entry = this.entries[this.selected];
    const reason = reasonOf(action, REJECT_REASONS);
    if (action === "flag") this.#flag(entry);
    else if (SAID[action]) this.#judgeChosen(action);
    else if (reason) this.#judgeChosen("reject", { reason });
    else if (action === "next") this.#select(Math.min(this.selected + 1, this.entries.length - 1));
    else if (action === "previous") this.#select(Math.max(this.selected - 1, 0));
    else if (action === "apart") this.#takeOut(entry);
    else if (action === "edit") this.#edit(entry);
    else if (action === "outline") {
      this.desk.toggleOutline();
      this.#outline();
    } else return false;
    return true;
  }

  async #forward() {
    this.shown = false;
    this.entries = [];
    if (this.apart.length) {
      this.feed.current = this.apart.shift();
      return this.#show([this.feed.current]);
    }
    const item = await this.feed.advance();
    if (item === undefined || !this.place) return;
    if (item) return this.#load(item);
    const waits = await this.desk.nothing(this.feed);
    clearTimeout(this.again);
    this.again = setTimeout(() => this.place && !this.feed.current && this.#forward(), waits);
  }

  /** Show an item with those that are like it. */
  async #load(item) {
    let items;
    try {
      ({ items } = await get(`/api/group/${item.candidate}`));
    } catch {
      items = [item]; // alone, then: it is here already
    }
    if (!this.place || this.feed.current !== item) return;
    const sent = this.desk.outbox.ids("candidate");
    items = items.filter(({ candidate }) => !sent.includes(candidate));
    if (!items.length) return this.#forward(); // somebody else has it
    return this.#show(items);
  }

  async #show(items) {
    this.shown = false;
    this.entries = items.map((item) => ({ item, out: false }));
    this.feed.drop(items.map(({ candidate }) => candidate));
    const { entries } = this;
    const tiles = await Promise.all(items.map((item) => decoded(face(item)).catch(() => null)));
    if (!this.place || this.entries !== entries) return;
    const viewer = this.desk.viewer();
    this.stage = viewer.stage;
    this.card = clone("candidate");
    this.card.querySelector(".crop").remove();
    this.question = this.card.querySelector(".question");
    this.verdicts = clone("group-verdicts");
    offerReasons(this.verdicts, REJECT_REASONS, this.desk.keys);
    this.desk.keys.mark(this.verdicts);
    const list = make("ol", { className: "tiles" }, ...entries.map((entry, n) => this.#tile(entry, n, tiles[n])));
    list.setAttribute("aria-label", "Nearly identical candidates");
    this.side = make("div", { className: "side" }, viewer.root, this.card, this.verdicts);
    const all = make("div", { className: "all" }, this.question, list);
    this.desk.keys.mark(list);
    this.place.replaceChildren(make("div", { className: "review group" }, all, this.side));
    window.scrollTo(0, 0); // on a phone the page itself scrolls
    this.#say();
    await this.#select(0);
    if (this.entries !== entries) return;
    this.watch.start();
    this.shown = true;
    this.card.ariaBusy = false;
  }

  #tile(entry, n, image) {
    const { item } = entry;
    const out = make("button", { type: "button" }, "Take out");
    out.dataset.action = "apart";
    const look = make("button", { type: "button", className: "face" }, image?.cloneNode() ?? "This image cannot be shown.");
    look.setAttribute("aria-label", `Look at number ${n + 1}`);
    entry.root = make(
      "li",
      { className: "tile" },
      look,
      make("p", { className: "row" }, make("b", { dir: "auto" }, plain(item.name)), badge(item.severity)),
      make("p", { dir: "auto", className: "hint" }, plain(item.phenomenon)),
      ...(this.entries.length > 1 ? [out] : []),
    );
    entry.button = out;
    entry.root.dataset.candidate = item.candidate;
    for (const event of ["click", "focusin"]) entry.root.addEventListener(event, () => this.#select(n, false));
    return entry.root;
  }

  /** Show one of the group large, with all that is said of it. */
  async #select(n, scroll = true) {
    const entry = this.entries[n];
    if (this.editor || !entry) return;
    this.selected = n;
    this.entries.forEach(({ root }, other) => (other === n ? root.setAttribute("aria-current", "true") : root.removeAttribute("aria-current")));
    if (scroll) entry.root.scrollIntoView({ block: "nearest" });
    const { item } = entry;
    const { card } = this;
    card.dataset.candidate = item.candidate;
    fill(card, item);
    part(card, "severity").replaceChildren(severity(item.severity));
    part(card, "chips").replaceChildren(...chips(item));
    card.querySelector(".prompt").hidden = !item.prompt;
    card.querySelector(".noregion").hidden = Boolean(item.region);
    this.desk.markFlag(this.verdicts, item);
    const image = await decoded(item.src).catch(() => null);
    if (this.entries[this.selected] !== entry || !this.place) return;
    this.stage.show(image);
    this.desk.missing(this.stage, image ? null : "This image cannot be shown. Flag it, and take it out.");
    this.#outline();
  }

  #outline() {
    const { item } = this.entries[this.selected];
    this.stage.outline(this.desk.outlined ? [{ region: item.region, tone: tone(item) }] : []);
  }

  /** Say how many the next verdict is for. */
  #say() {
    const chosen = this.entries.filter(({ out }) => !out).length;
    const all = this.entries.length;
    this.question.textContent =
      all === 1
        ? "Is this really wrong in the image, just as it is described? No other is like it."
        : `Is each of the ${chosen === all ? all : `${chosen} of ${all}`} really wrong, just as it is described? Take out those that are not like the rest.`;
    for (const button of this.verdicts.querySelectorAll(".count")) button.textContent = all === 1 ? "" : ` ${chosen}`;
  }

  #takeOut(entry) {
    if (this.entries.length === 1) return;
    entry.out = !entry.out;
    entry.root.classList.toggle("out", entry.out);
    entry.button.firstChild.textContent = entry.out ? "Put back" : "Take out";
    this.#say();
  }

  #judgeChosen(choice, more) {
    const chosen = this.entries.filter(({ out }) => !out);
    this.apart.push(...this.entries.filter(({ out }) => out).map(({ item }) => item));
    if (chosen.length) this.#judge(chosen, choice, more);
    else this.desk.note("All are taken out: they come one by one.");
    this.#forward();
  }

  /** One verdict for each, and an equal part of the time. */
  #judge(entries, choice, more = {}) {
    const seconds = Math.round((1000 * this.watch.seconds()) / entries.length) / 1000;
    this.desk.judge(entries.map(({ item }) => item), { choice, seconds, ...more });
    this.watch.start();
  }

  #flag(entry) {
    this.desk.flag(entry.item);
    this.desk.markFlag(this.verdicts, entry.item);
  }

  /** Correct one of the group: it is accepted alone, and the others stay. */
  #edit(entry) {
    const close = () => {
      this.editor.root.remove();
      this.editor = null;
      this.stage.stopDrawing();
      this.card.hidden = this.verdicts.hidden = false;
      this.#outline();
    };
    const accept = (more) => {
      this.#judge([entry], "accept", more);
      const others = this.entries.filter((other) => other !== entry);
      this.apart.push(...others.filter(({ out }) => out).map(({ item }) => item));
      const left = others.filter(({ out }) => !out).map(({ item }) => item);
      if (!left.length) return this.#forward();
      this.feed.current = left[0];
      this.#show(left);
    };
    this.editor = editCandidate(this.stage, entry.item, this.desk.me.kinds, { accept, close, note: (text) => this.desk.note(text) });
    this.card.hidden = this.verdicts.hidden = true;
    this.side.append(this.editor.root);
    this.editor.focus();
  }

  /** Take the latest verdict back: all that one key gave, as far as this tab knows it. */
  #undo() {
    const { last, answer } = this.desk.undo();
    if (last?.choice === "flag") {
      if (this.shown) this.desk.markFlag(this.verdicts, this.entries[this.selected].item);
      this.desk.note("Taken back: flagged");
    } else if (last) {
      this.#again(last.items);
    } else {
      answer.then(({ undone, item }) => {
        if (!undone || !item) this.desk.note("There is nothing to undo.");
        else if (this.place) this.#again([item]);
      }).catch(() => {});
    }
    return true;
  }

  #again(items) {
    const ids = items.map(({ candidate }) => candidate);
    this.apart = this.apart.filter(({ candidate }) => !ids.includes(candidate));
    this.desk.note(items.length === 1 ? "Taken back" : `Taken back: the verdicts on ${items.length} candidates`);
    if (this.editor) return this.feed.soon(items[0]); // what is being written stays on the screen
    this.feed.back(items[0]);
    this.#show(items);
  }
}

/** What a tile shows: the marked place, or the whole image. */
const face = (item) => item.crop ?? `${item.src}&side=512`;
