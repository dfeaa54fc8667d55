// What is done with images as such: people write down what is wrong in them, or keep and drop them.
//
//   const mode = new Annotating(desk); await mode.begin(place);

import { get, newKey } from "./api.js";
import { clone, fill, make, plain } from "./dom.js";
import { Editor } from "./editor.js";
import { Feed } from "./feed.js";
import { decoded } from "./decoding.js";
import { DROP_REASONS, offerReasons, reasonOf } from "./reasons.js";
import { badge } from "./severity.js";

const BLANK = { name: "", phenomenon: "", reasoning: "", kind: "", region: null };

/** One image after another. */
class ImageMode {
  constructor(desk, mode) {
    this.desk = desk;
    const ask = async (count, have) => ({ items: (await get(`/api/images?mode=${mode}&count=${count}&have=${have}`)).images });
    this.feed = new Feed(ask, "image", desk.outbox);
  }

  async begin(place) {
    this.place = place;
    if (this.feed.current) await this.show();
    else await this.forward();
  }

  end() {
    this.place = null;
    clearTimeout(this.again);
  }

  async forward() {
    const image = await this.feed.advance();
    if (image === undefined || !this.place) return;
    if (image) return this.show();
    const waits = await this.desk.nothing(this.feed, "images");
    this.again = setTimeout(() => this.place && !this.feed.current && this.forward(), waits);
  }

  /** Put the image and what `aside` makes on the screen. */
  async show() {
    const item = this.feed.current;
    this.shown = false;
    const image = await decoded(item.src).catch(() => null);
    if (this.feed.current !== item || !this.place) return;
    const viewer = this.desk.viewer();
    this.stage = viewer.stage;
    this.stage.show(image);
    this.desk.missing(this.stage, image ? null : "This image cannot be shown.");
    this.side = make("div", { className: "side" }, ...this.aside(item));
    this.place.replaceChildren(make("div", { className: "review" }, viewer.root, this.side));
    this.shown = true;
  }
}

export class Annotating extends ImageMode {
  constructor(desk) {
    super(desk, "annotate");
    this.history = []; // images that this tab is done with: {item, saved}, the latest last
    this.saved = []; // what was saved of the image: {key, ...what was written}
  }

  act(action) {
    if (action === "undo") return this.#undo();
    return Boolean(this.feed.current && this.shown) && this.stage.look(action);
  }

  /** Another mode comes on: what is written and not saved stays for later. */
  end() {
    super.end();
    this.draft = this.shown && !this.editor.untouched ? this.editor.written : null;
    this.stage?.stopDrawing();
  }

  aside(item) {
    if (this.image !== item.image) [this.image, this.saved, this.draft] = [item.image, [], null];
    this.list = make("ul", { className: "list saved" }, ...this.saved.map((each) => this.#line(each)));
    this.list.setAttribute("aria-label", "What you wrote of this image");
    const form = this.#form(item, this.draft ?? BLANK);
    this.#outline();
    return [this.list, form];
  }

  #line(saved) {
    const back = make("button", { type: "button" }, "Take back");
    back.setAttribute("aria-label", `Take back ${plain(saved.name)}`);
    const line = make("li", { className: "entry row" }, make("span", { dir: "auto" }, plain(saved.name)), badge(saved.severity), back);
    back.addEventListener("click", () => this.#takeBack(saved));
    return line;
  }

  /** Take something saved back; it stands in the form again, unless something else does. */
  #takeBack(saved) {
    this.desk.send("/api/annotation/undo", { annotation: saved.key });
    this.saved = this.saved.filter((other) => other !== saved);
    this.draft = this.editor.untouched ? saved : this.editor.written;
    this.stage.stopDrawing();
    this.side.replaceChildren(...this.aside(this.feed.current));
    this.desk.note(`Taken back: ${plain(saved.name)}`);
  }

  /** Take back what was saved last; when nothing was saved of this image, go back to the one before. */
  #undo() {
    if (this.saved.length && this.shown) {
      this.#takeBack(this.saved.at(-1));
    } else {
      const before = this.history.pop();
      if (!before) this.desk.note("There is nothing to undo.");
      else {
        this.stage?.stopDrawing();
        this.feed.back(before.item);
        [this.image, this.saved, this.draft] = [before.item.image, before.saved, null];
        this.desk.note("Back to the image before.");
        this.show();
      }
    }
    return true;
  }

  #outline() {
    this.stage.outline(this.saved.map(({ region }) => ({ region, tone: "band-4 faint" })));
  }

  #form(item, fields) {
    const form = (this.editor = new Editor(this.stage, {
      title: this.saved.length ? "Is more wrong?" : "What is wrong in this image?",
      hint: "Write down one thing that cannot be so, and mark its place.",
      fields: BLANK,
      draft: fields,
      kinds: this.desk.me.kinds,
      reasons: null,
      save: { label: "Save", action: (written) => this.#save(item, written) },
      cancel: { label: this.saved.length ? "Nothing more: next image" : "Nothing is wrong: next image", action: () => this.#done(item) },
    }));
    return form.root;
  }

  #save(item, { kind, ...written }) {
    const saved = { key: newKey(), kind, ...written };
    this.desk.send("/api/annotation", { key: saved.key, image: item.image, ...written, ...(kind ? { kind } : {}) }, { annotates: item.image });
    this.draft = null;
    this.saved.push(saved);
    this.list.append(this.#line(saved));
    this.desk.note("Saved");
    const before = this.editor.root;
    this.stage.stopDrawing();
    before.replaceWith(this.#form(item, BLANK));
    this.#outline();
    this.editor.focus();
  }

  #done(item) {
    if (!this.editor.untouched) return this.editor.complain("Save what you wrote, or clear it, before you go on.", "name");
    this.desk.send("/api/annotated", { image: item.image });
    this.history.push({ item, saved: this.saved });
    this.stage.stopDrawing();
    this.shown = false;
    this.side.inert = true; // what is clicked now is not meant for the next image
    this.forward();
  }
}

export class Keeping extends ImageMode {
  constructor(desk) {
    super(desk, "keep");
    this.history = []; // images decided in this tab, the latest last
  }

  act(action) {
    if (action === "undo") return this.#undo();
    const item = this.feed.current;
    if (!item || !this.shown) return false;
    if (this.stage.look(action)) return true;
    const reason = reasonOf(action, DROP_REASONS);
    if (action === "accept") this.#decide(item, true);
    else if (action === "reject") this.#decide(item, false);
    else if (reason) this.#decide(item, false, reason);
    else return false;
    return true;
  }

  aside(item) {
    const card = fill(clone("image"), item);
    card.querySelector(".prompt").hidden = !item.prompt;
    const decisions = clone("decisions");
    offerReasons(decisions, DROP_REASONS, this.desk.keys);
    decisions.querySelector(".reasons").open = matchMedia("(min-width: 46rem)").matches;
    this.desk.keys.mark(decisions);
    return [card, decisions];
  }

  #decide(item, keep, reason = null) {
    this.shown = false;
    const decide = (reason) => {
      this.desk.send(`/api/image/${item.image}`, { keep, ...(reason ? { reason } : {}) }, { image: item.image });
      this.desk.note(keep ? "Kept" : reason ? `Dropped (${reason})` : "Dropped");
    };
    decide(reason);
    this.history.push(item);
    if (!keep && !reason) this.desk.rejected(DROP_REASONS, decide);
    this.forward();
  }

  /** Show the last image again: what is decided then replaces what was decided before. */
  #undo() {
    const item = this.history.pop();
    if (!item) this.desk.note("There is nothing to undo.");
    else {
      this.feed.back(item);
      this.desk.note("Decide again: your new decision replaces the last one.");
      this.show();
    }
    return true;
  }
}
