// Follows jobs until they end: the one on the screen by its stream of events, the others by asking now and then.
//
//   const watcher = new Watcher(entries);
//   watcher.look(entry);    // this one is on the screen

import { Problem, get } from "./api.js";
import { ended } from "./entries.js";

const PAUSE = 1_000, PAUSE_HIDDEN = 8_000; // milliseconds between two rounds of questions
const SILENCE = 15_000; // milliseconds without an event, after which the stream may be dead
const REOPEN = 10_000; // milliseconds after which a stream that was refused is tried again
const AT_ONCE = 4; // jobs asked about in one round: the service works on the oldest first

export class Watcher extends EventTarget {
  /** Fires `trouble` when `problem` changes: the last question was refused, or null. */
  constructor(entries) {
    super();
    Object.assign(this, { entries, problem: null, looked: null, stream: null, heard: 0 });
    document.addEventListener("visibilitychange", () => this.wake());
    addEventListener("online", () => this.wake());
    this.#run();
  }

  /** Follow an entry closely; null: none. */
  look(entry) {
    const same = entry === this.looked;
    this.looked = entry;
    if (same) this.#open();
    else this.wake();
  }

  /** Ask now. */
  wake() {
    this.#open();
    this.ring?.();
  }

  /** A browser keeps few connections to one server: a stream is held for what is seen, and for nothing else. */
  #open() {
    const entry = this.looked;
    const wanted = entry?.id && !ended(entry) && !document.hidden ? entry.id : null;
    const same = this.stream?.job === wanted;
    if (same && (this.stream.readyState !== EventSource.CLOSED || performance.now() < this.opened + REOPEN)) return;
    this.stream?.close();
    this.stream = null;
    if (!wanted) return;
    const stream = new EventSource(`/v1/jobs/${encodeURIComponent(wanted)}/events`);
    stream.job = wanted;
    this.stream = stream;
    this.opened = performance.now();
    this.heard = 0;
    stream.addEventListener("job", ({ data }) => {
      if (this.stream !== stream) return;
      this.heard = performance.now();
      this.#tell(null);
      this.#changed(entry, JSON.parse(data));
    });
    stream.addEventListener("error", () => (this.heard = 0)); // the browser opens it again; questions go on meanwhile
  }

  async #run() {
    for (;;) {
      this.#open();
      const open = this.entries.inTurn.filter((entry) => entry.id && !ended(entry) && !this.#streamed(entry));
      const seen = open.filter((entry) => entry === this.looked);
      const others = open.filter((entry) => entry !== this.looked);
      for (const entry of [...seen, ...others.slice(0, AT_ONCE)]) await this.#ask(entry);
      await new Promise((resolve) => {
        this.ring = resolve;
        setTimeout(resolve, document.hidden ? PAUSE_HIDDEN : PAUSE);
      });
    }
  }

  #streamed(entry) {
    return this.stream?.job === entry.id && this.heard > 0 && performance.now() - this.heard < SILENCE;
  }

  async #ask(entry) {
    const { id } = entry;
    try {
      const job = await get(`/v1/jobs/${encodeURIComponent(id)}`);
      this.#tell(null);
      this.#changed(entry, job);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status !== 404) this.#tell(problem);
      else if (entry.id === id && !ended(entry)) this.entries.change(entry, { problem: { status: 404, message: problem.message } });
    }
  }

  /** Take an answer on an entry, unless a faster one told its end, or it was sent again meanwhile. */
  #changed(entry, job) {
    if (entry.id !== job.id || ended(entry)) return;
    if (JSON.stringify(job) === JSON.stringify(entry.job)) return;
    // The file was kept for another try; a result needs none.
    this.entries.change(entry, { job, ...(job.state === "done" ? { file: null } : {}) });
  }

  #tell(problem) {
    const changed = this.problem?.status !== problem?.status;
    this.problem = problem;
    if (changed) this.dispatchEvent(new Event("trouble"));
  }
}
