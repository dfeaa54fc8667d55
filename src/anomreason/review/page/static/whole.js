// A whole image with all of its candidates: judge some, accept the rest.
//
//   const mode = new WholeImages(desk); await mode.begin(place);

import { get } from "./api.js";
import { chips, tone } from "./candidates.js";
import { clone, fill, make, plain } from "./dom.js";
import { editCandidate } from "./editor.js";
import { Feed } from "./feed.js";
import { decoded } from "./decoding.js";
import { REJECT_REASONS, SAID, reasonOf } from "./reasons.js";
import { band, badge } from "./severity.js";
import { Stopwatch } from "./stopwatch.js";

export class WholeImages {
  constructor(desk) {
    this.desk = desk;
    this.entries = []; // of the image: {item, choice, root}
    this.feed = new Feed((count, have) => desk.next(count, have), "candidate", desk.outbox);
    this.watch = new Stopwatch();
  }

  async begin(place) {
    this.place = place;
    this.entries = [];
    this.feed.clear(); // in other modes some may have been judged
    await this.#forward();
  }

  end() {
    this.place = this.editor = null;
    clearTimeout(this.again);
  }

  act(action) {
    if (this.editor) return false;
    if (action === "undo") return this.#undo();
    if (!this.feed.current || !this.shown) return false;
    if (this.stage.look(action)) return true;
    const entry = this.entries[this.selected];
    const reason = reasonOf(action, REJECT_REASONS);
    if (action === "flag") {
      this.desk.flag(entry.item);
      this.desk.markFlag(this.verdicts, entry.item);
    } else if (SAID[action]) this.#judge(entry, action);
    else if (reason) this.#judge(entry, "reject", { reason });
    else if (action === "next") this.#select(Math.min(this.selected + 1, this.entries.length - 1));
    else if (action === "previous") this.#select(Math.max(this.selected - 1, 0));
    else if (action === "accept_rest") this.#acceptRest();
    else if (action === "edit") this.#edit(entry);
    else if (action === "outline") {
      this.desk.toggleOutline();
      this.#outline();
    } else return false;
    return true;
  }

  async #forward() {
    this.shown = false;
    this.feed.drop(this.entries.map(({ item }) => item.candidate));
    const item = await this.feed.advance();
    if (item === undefined || !this.place) return;
    if (item) return this.#load(item);
    this.entries = [];
    const waits = await this.desk.nothing(this.feed);
    this.again = setTimeout(() => this.place && !this.feed.current && this.#forward(), waits);
  }

  /** Show the image of an item with all of its candidates that wait for this person. */
  async #load(item) {
    this.shown = false;
    let items, image;
    try {
      [{ items }, image] = await Promise.all([get(`/api/image-items/${item.image}`), decoded(item.src).catch(() => null)]);
    } catch (problem) {
      if (!this.place || this.feed.current !== item) return;
      this.feed.problem = problem;
      this.feed.back(item);
      this.again = setTimeout(() => this.place && this.feed.current === item && this.#load(item), await this.desk.nothing(this.feed));
      return;
    }
    if (!this.place || this.feed.current !== item) return;
    const sent = this.desk.outbox.ids("candidate");
    this.entries = items.filter(({ candidate }) => !sent.includes(candidate)).map((each) => ({ item: each, choice: null }));
    if (!this.entries.length) return this.#forward(); // somebody else has them
    const viewer = this.desk.viewer();
    const card = fill(clone("whole"), item);
    card.querySelector(".prompt").hidden = !item.prompt;
    card.querySelector(".list").append(...this.entries.map((entry, n) => this.#build(entry, n)));
    this.verdicts = clone("whole-verdicts");
    this.desk.keys.mark(this.verdicts);
    this.side = make("div", { className: "side" }, card, this.verdicts);
    this.place.replaceChildren(make("div", { className: "review" }, viewer.root, this.side));
    this.stage = viewer.stage;
    this.stage.show(image);
    this.desk.missing(this.stage, image ? null : "This image cannot be shown. Flag it, and say that you are unsure.");
    this.shown = true;
    this.watch.start();
    this.#select(0);
  }

  #build(entry, n) {
    const { item } = entry;
    const button = (action, text) => {
      const made = make("button", { type: "button", className: action }, text);
      made.dataset.action = action;
      return made;
    };
    const said = make("span", { className: "hint" });
    const row = make("div", { className: "row" }, button("accept", "Accept"), button("reject", "Reject"), button("unsure", "Unsure"), said);
    entry.root = make(
      "li",
      { className: `entry${item.severity === null ? "" : ` band-${band(item.severity)}`}`, tabIndex: 0 },
      make("h2", { dir: "auto" }, plain(item.name)),
      make("p", { dir: "auto" }, plain(item.phenomenon)),
      make("p", { dir: "auto", className: "hint" }, plain(item.reasoning)),
      make("p", { className: "row" }, badge(item.severity), ...chips(item)),
      row,
    );
    entry.root.dataset.candidate = item.candidate;
    entry.said = said;
    for (const event of ["click", "focusin", "pointerenter"]) entry.root.addEventListener(event, () => this.#select(n, false));
    return entry.root;
  }

  #select(n, scroll = true) {
    if (this.editor || !this.entries[n]) return;
    this.selected = n;
    this.entries.forEach(({ root }, other) => (other === n ? root.setAttribute("aria-current", "true") : root.removeAttribute("aria-current")));
    if (scroll) this.entries[n].root.scrollIntoView({ block: "nearest" });
    this.desk.markFlag(this.verdicts, this.entries[n].item);
    this.#outline();
  }

  #outline() {
    const others = this.entries.filter((_, n) => n !== this.selected).map(({ item }) => ({ region: item.region, tone: `${tone(item)} faint` }));
    const { item } = this.entries[this.selected];
    this.stage.outline(this.desk.outlined ? [...others, { region: item.region, tone: tone(item) }] : []);
  }

  #judge(entry, choice, more = {}) {
    this.desk.judge([entry.item], { choice, seconds: this.watch.seconds(), ...more });
    this.watch.start();
    this.#mark(entry, choice);
    const open = this.entries.findIndex((other) => !other.choice);
    if (open < 0) this.#forward();
    else this.#select(open);
  }

  #mark(entry, choice) {
    entry.choice = choice;
    entry.said.textContent = choice ? SAID[choice] : "";
    entry.root.classList.toggle("judged", Boolean(choice));
  }

  #acceptRest() {
    for (const entry of this.entries.filter(({ choice }) => !choice)) this.#judge(entry, "accept");
  }

  #edit(entry) {
    const hidden = [...this.side.children];
    const close = () => {
      this.editor.root.remove();
      this.editor = null;
      this.stage.stopDrawing();
      for (const part of hidden) part.hidden = false;
      this.#outline();
    };
    const accept = (more) => this.#judge(entry, "accept", more);
    this.editor = editCandidate(this.stage, entry.item, this.desk.me.kinds, { accept, close, note: (text) => this.desk.note(text) });
    for (const part of hidden) part.hidden = true;
    this.side.append(this.editor.root);
    this.editor.focus();
  }

  #undo() {
    const { last, answer } = this.desk.undo();
    const taken = last?.items.map(({ candidate }) => candidate) ?? [];
    const back = this.entries.filter(({ item }) => taken.includes(item.candidate));
    if (back.length && this.shown) {
      if (last.choice !== "flag") for (const entry of back) this.#mark(entry, null);
      this.#select(this.entries.indexOf(back[0]));
      this.desk.note(`Taken back: ${SAID[last.choice].toLowerCase()}`);
      return true;
    }
    answer.then(({ undone, item }) => {
      if (!undone || !item) return this.desk.note("There is nothing to undo.");
      this.desk.note("Taken back");
      if (this.editor) return this.feed.soon(item); // what is being written stays on the screen
      this.feed.back(item);
      if (this.place) this.#load(item);
    }).catch(() => {});
    return true;
  }
}
