// Sends images one after the other, each until the service took it or said that it never will.
//
//   const sender = new Sender(entries);
//   sender.wake();    // there is something new, or something may work again

import { Problem, upload } from "./api.js";
import { stateOf } from "./entries.js";

const FIRST_PAUSE = 1_000, LONGEST_PAUSE = 15_000; // milliseconds

export class Sender extends EventTarget {
  /** Fires `hold` when `held` changes. */
  constructor(entries) {
    super();
    this.entries = entries;
    this.held = null; // the problem for which nothing is sent until somebody does something: signed out, or no budget
    this.pause = FIRST_PAUSE;
    this.woken = false; // whether something is new since the list was last looked through
    addEventListener("online", () => this.wake());
    this.#run();
  }

  /** Go on, now. */
  wake() {
    this.#hold(null);
    this.pause = FIRST_PAUSE;
    this.woken = true;
    this.ring?.();
  }

  async #run() {
    // One tab at a time sends, where the browser can tell: two would send the same image twice.
    for (;;) {
      this.woken = false;
      if (navigator.locks) await navigator.locks.request("anomreason-sender", () => this.#sendAll());
      else await this.#sendAll();
      if (!this.woken) await new Promise((resolve) => (this.ring = resolve));
    }
  }

  async #sendAll() {
    await this.entries.reload(); // another tab may have sent them
    for (let entry; !this.held && (entry = this.entries.inTurn.find(waits)); ) {
      const wait = await this.#send(entry);
      if (wait) await this.#rest(wait);
    }
  }

  /** Send one; gives the milliseconds to wait before the next try. */
  async #send(entry) {
    const { entries } = this;
    try {
      entries.touch(entry, { sent: 0, trouble: null });
      const job = await upload(entry.file, entry.name, (sent) => entries.touch(entry, { sent }));
      entries.change(entry, { id: job.id, job, sent: null, trouble: null, ...(job.state === "done" ? { file: null } : {}) });
      this.pause = FIRST_PAUSE;
      return 0;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      return this.#failed(entry, problem);
    }
  }

  async #failed(entry, problem) {
    const { entries } = this;
    if (problem.status === 0 && !(await readable(entry.file))) {
      problem = new Problem(400, "the file cannot be read any more; it was moved or changed, or it is a folder");
    }
    entries.touch(entry, { sent: null, trouble: null });
    if (problem.signedOut || problem.broke) {
      this.#hold(problem);
      return 0;
    }
    if (!problem.passing) {
      entries.change(entry, { problem: { status: problem.status, message: problem.message } });
      return 0;
    }
    const wait = problem.wait === null ? this.pause : Math.max(problem.wait * 1000, 500);
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
    entries.touch(entry, { trouble: { status: problem.status, message: problem.message, until: Date.now() + wait } });
    return wait;
  }

  async #rest(wait) {
    await new Promise((resolve) => {
      this.ring = resolve;
      setTimeout(resolve, wait);
    });
  }

  #hold(problem) {
    const changed = this.held !== problem;
    this.held = problem;
    if (changed) this.dispatchEvent(new Event("hold"));
  }
}

const waits = (entry) => stateOf(entry) === "waiting" && entry.file;

/** Whether a file is still there; a folder that was dropped is none. */
async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
