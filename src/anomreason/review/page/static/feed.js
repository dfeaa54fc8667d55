// What comes next: a few items ahead, their images decoded.
//
//   const feed = new Feed((count, have) => get(`/api/next?count=${count}&have=${have}`), "candidate", outbox);
//   await feed.advance(); feed.current;

import { prefetch } from "./decoding.js";

const AHEAD = 3;
const PAINTED = 50; // milliseconds, more than a few frames
const MOST_NAMED = 100; // ids that one request may name

export class Feed {
  /** ask: gives {items, state?} that are not in `have`. name: of their id, `candidate` or `image`. */
  constructor(ask, name, outbox) {
    Object.assign(this, { ask, name, outbox });
    this.id = (item) => item[name];
    this.turn = 0; // how often what is current was to change
    this.clear();
    this.state = "working";
    this.problem = null; // why nothing came, when nothing is left
  }

  /** Forget all items: the server gives them again, but for those that were judged in another mode meanwhile. */
  clear() {
    this.turn += 1;
    this.current = null;
    this.ahead = [];
    this.filling = null;
    this.cleared = (this.cleared ?? 0) + 1; // what is on its way does not count
  }

  /** Go to the next item, at once when one is there; gives it, or null when none is to be had now.
   * undefined: while it waited, somebody went elsewhere. */
  async advance() {
    const turn = ++this.turn;
    this.current = this.ahead.shift() ?? null;
    if (!this.current) {
      await this.fill();
      if (turn !== this.turn) return undefined;
      this.current = this.ahead.shift() ?? null;
    }
    setTimeout(() => this.fill(), PAINTED); // not before this one is on the screen
    return this.current;
  }

  /** Put an item in front of the current one. */
  back(item) {
    this.turn += 1;
    this.ahead = this.ahead.filter((other) => this.id(other) !== this.id(item));
    if (this.current && this.id(this.current) !== this.id(item)) this.ahead.unshift(this.current);
    this.current = item;
    prefetch(item.src, item.crop);
  }

  /** Put an item behind the current one. */
  soon(item) {
    if (this.current && this.id(this.current) === this.id(item)) return;
    this.ahead = [item, ...this.ahead.filter((other) => this.id(other) !== this.id(item))];
    prefetch(item.src, item.crop);
  }

  /** Leave out items that were dealt with in another way. */
  drop(ids) {
    this.ahead = this.ahead.filter((item) => !ids.includes(this.id(item)));
  }

  /** Fetch what is missing; one request at a time. */
  fill() {
    if (this.filling) return this.filling;
    const filling = this.#fill().finally(() => {
      if (this.filling === filling) this.filling = null; // not another one, since all was cleared
    });
    return (this.filling = filling);
  }

  async #fill() {
    const wanted = AHEAD - this.ahead.length;
    if (wanted <= 0) return;
    const { cleared } = this;
    const known = [this.current, ...this.ahead].filter(Boolean).map(this.id);
    const have = [...new Set([...known, ...this.outbox.ids(this.name)])].slice(0, MOST_NAMED);
    try {
      const answer = await this.ask(wanted, have.join(","));
      if (cleared !== this.cleared) return;
      const there = new Set([this.current, ...this.ahead].filter(Boolean).map(this.id));
      const fresh = answer.items.filter((item) => !there.has(this.id(item)) && !have.includes(this.id(item)));
      this.ahead.push(...fresh);
      for (const item of fresh) prefetch(item.src, item.crop);
      this.state = answer.state ?? (answer.items.length ? "working" : "finished");
      this.problem = null;
    } catch (problem) {
      if (cleared === this.cleared) this.problem = problem;
    }
  }
}
