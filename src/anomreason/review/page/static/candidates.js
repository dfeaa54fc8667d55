// One candidate a screen, one key a verdict. Disagreements are settled in the same way, by the owner.
//
//   const mode = new Candidates(desk); await mode.begin(place);

import { get } from "./api.js";
import { clone, fill, make, part, plain } from "./dom.js";
import { editCandidate } from "./editor.js";
import { Feed } from "./feed.js";
import { decoded } from "./decoding.js";
import { REJECT_REASONS, SAID, offerReasons, reasonOf } from "./reasons.js";
import { band, severity } from "./severity.js";
import { Stopwatch } from "./stopwatch.js";

const LATE = 40; // milliseconds after which an image that is not there yet is said to be loading

export class Candidates {
  /** desk: what all modes share; settling: whether disagreements are settled instead. */
  constructor(desk, settling = false) {
    Object.assign(this, { desk, settling });
    this.feed = new Feed(settling ? () => this.#disputed() : (count, have) => desk.next(count, have), "candidate", desk.outbox);
    this.watch = new Stopwatch();
  }

  async begin(place) {
    this.place = place;
    this.feed.clear(); // in other modes some may have been judged
    await this.#forward();
  }

  end() {
    this.place = null;
    clearTimeout(this.again);
    this.stage?.stopDrawing();
    this.editor = null;
    this.built = false;
  }

  act(action) {
    if (action === "undo") return this.#undo();
    if (!this.feed.current || this.editor) return false;
    if (this.stage.look(action)) return true;
    if (action === "outline") return this.#toggleOutline();
    if (action === "flag") return this.#flag();
    if (SAID[action]) return this.#judge(action);
    const reason = reasonOf(action, REJECT_REASONS);
    if (reason) return this.#judge("reject", { reason });
    if (action === "edit") return this.#edit();
    return false;
  }

  async #disputed() {
    const judged = new Set(this.desk.history.flatMap(({ items }) => items).map((item) => item.candidate));
    const { items } = await get("/api/disputed");
    return { items: items.filter((item) => !judged.has(item.candidate)) };
  }

  /** Keep a verdict and go on. Nothing can be judged that is not on the screen yet. */
  #judge(choice, more = {}) {
    const item = this.feed.current;
    if (!this.shown) return true;
    const verdict = { choice, seconds: this.watch.seconds(), ...more };
    if (this.settling) verdict.final = true;
    this.desk.judge([item], verdict);
    this.#forward();
    return true;
  }

  /** The item still waits for a verdict. */
  #flag() {
    if (!this.shown) return true;
    this.desk.flag(this.feed.current);
    this.desk.markFlag(this.verdicts, this.feed.current);
    return true;
  }

  async #forward() {
    const coming = this.feed.advance();
    if (this.feed.current) return this.#show();
    this.shown = false;
    if ((await coming) === undefined || !this.place) return;
    if (this.feed.current) await this.#show();
    else await this.#nothing();
  }

  /** Nothing is left to show: say why, and look again. */
  async #nothing() {
    this.built = false;
    const waits = await this.desk.nothing(this.feed, this.settling ? "settled" : "finished");
    clearTimeout(this.again);
    this.again = setTimeout(() => this.place && !this.feed.current && this.#forward(), waits);
  }

  #build() {
    const viewer = this.desk.viewer();
    this.stage = viewer.stage;
    this.card = clone("candidate");
    const verdicts = clone("verdicts");
    offerReasons(verdicts, REJECT_REASONS, this.desk.keys);
    this.side = make("div", { className: "side" }, this.card, verdicts);
    this.verdicts = verdicts;
    this.desk.keys.mark(verdicts);
    this.place.replaceChildren(make("div", { className: "review" }, viewer.root, this.side));
    this.built = true;
  }

  /** Put the current item on the screen. */
  async #show() {
    const item = this.feed.current;
    if (!this.built) this.#build();
    this.shown = false;
    const { card } = this;
    card.dataset.candidate = item.candidate;
    card.ariaBusy = true;
    fill(card, item);
    part(card, "severity").replaceChildren(severity(item.severity));
    part(card, "chips").replaceChildren(...chips(item));
    const prompt = card.querySelector(".prompt");
    prompt.hidden = !item.prompt;
    card.querySelector(".noregion").hidden = Boolean(item.region);
    this.desk.markFlag(this.verdicts, item);
    card.scrollTop = 0;
    window.scrollTo(0, 0); // on a phone the page itself scrolls
    this.verdicts.querySelector(".reasons").open = false;
    part(card, "opinions").replaceChildren(...(this.settling ? [this.#opinions(item)] : []));
    this.#crop(item);
    const late = setTimeout(() => {
      if (this.feed.current !== item || !this.place) return;
      this.stage.show(null); // not the image before
      this.desk.missing(this.stage, "Loading the image …");
    }, LATE);
    const image = await decoded(item.src).catch(() => null);
    clearTimeout(late);
    if (this.feed.current !== item || !this.place) return;
    this.stage.show(image, this.#outlines(item));
    this.desk.missing(this.stage, image ? null : "This image cannot be shown. Flag it, and say that you are unsure.");
    this.watch.start();
    this.shown = true;
    card.ariaBusy = false;
  }

  #outlines(item) {
    return this.desk.outlined ? [{ region: item.region, tone: tone(item) }] : [];
  }

  async #crop(item) {
    const figure = this.card.querySelector(".crop");
    figure.hidden = !item.crop;
    if (!item.crop) return;
    const late = setTimeout(() => (figure.hidden ||= this.feed.current === item), LATE);
    const crop = await decoded(item.crop).catch(() => null);
    clearTimeout(late);
    if (this.feed.current !== item) return;
    figure.hidden = !crop;
    if (!crop) return;
    crop.alt = "The marked place, enlarged";
    figure.firstElementChild.replaceWith(crop);
  }

  #toggleOutline() {
    this.desk.toggleOutline();
    this.stage.outline(this.#outlines(this.feed.current));
    return true;
  }

  #edit() {
    if (!this.shown) return true;
    const item = this.feed.current;
    const close = () => {
      this.editor.root.remove();
      this.editor = null;
      this.stage.stopDrawing();
      this.card.hidden = this.verdicts.hidden = false;
      this.stage.outline(this.#outlines(item));
    };
    const accept = (more) => this.#judge("accept", more);
    const note = (text) => this.desk.note(text);
    this.editor = editCandidate(this.stage, item, this.desk.me.kinds, { accept, close, note });
    this.card.hidden = this.verdicts.hidden = true;
    this.side.append(this.editor.root);
    this.editor.focus();
    return true;
  }

  /** Take the latest verdict back. What this tab knows is shown at once; before that, the server knows. */
  #undo() {
    if (this.editor) return true;
    const { last, answer } = this.desk.undo();
    if (last) {
      const [first] = last.items; // the others of a group come again after it
      this.#again(first, last.choice);
      answer.then(({ undone, item }) => {
        // Another tab of the same person judged later: what the server took back is shown instead.
        if (undone && item && undone.candidate !== first.candidate && this.place) this.#again(item, undone.choice);
      }).catch(() => {});
    } else {
      answer.then(({ undone, item }) => {
        if (!undone || !item) this.desk.note("There is nothing to undo.");
        else if (this.place) this.#again(item, undone.choice);
      }).catch(() => {});
    }
    return true;
  }

  #again(item, choice) {
    this.desk.note(`Taken back: ${(SAID[choice] ?? choice).toLowerCase()}`);
    if (this.editor) return this.feed.soon(item); // what is being written stays on the screen
    this.feed.back(item);
    this.#show();
  }

  /** What people said, hidden until the owner has looked for themselves. */
  #opinions(item) {
    const fold = make("details", { className: "opinions" }, make("summary", {}, "Show what people said"));
    fold.addEventListener("toggle", async () => {
      if (!fold.open || fold.children.length > 1) return;
      const { opinions } = await get(`/api/opinions/${item.candidate}`);
      const line = ({ person, choice, reason }) => make("li", {}, plain(`${person}: ${choice}${reason ? ` (${reason})` : ""}`));
      fold.append(make("ul", {}, ...opinions.map(line)));
    });
    return fold;
  }
}

/** The colour of an outline. */
export const tone = (item) => (item.severity === null ? "band-0" : `band-${band(item.severity)}`);

export function chips(item) {
  return [item.kind?.replaceAll("_", " "), ...item.objects].filter(Boolean).map((text) => make("span", { className: "chip", dir: "auto" }, plain(text)));
}
