// What was decided and is not acknowledged yet: kept in this browser, sent in order, sent again until the server has it.
//
//   const outbox = new Outbox("data/ada", localStorage);
//   outbox.send("/api/verdict", { candidate: 7, choice: "accept" });

import { newKey, post } from "./api.js";

const FIRST_PAUSE = 500, LONGEST_PAUSE = 15_000; // milliseconds

export class Outbox extends EventTarget {
  /** scope: dataset and person, so that nothing is ever sent in another's name. Fires `change`, and
   * `answer` with what the server said. */
  constructor(scope, storage) {
    super();
    this.prefix = `anomreason:${scope}:`;
    this.storage = storage;
    this.waiting = []; // entries {name, path, body}, the oldest first
    this.refused = []; // entries that the server will never take, with `problem`
    this.answers = new Map(); // by key: who waits for the answer
    this.offline = this.signedOut = false;
    this.durable = true; // whether entries survive a reload
    this.answered = 0; // how much the server took in this tab
    this.last = 0;
    this.#adopt();
    addEventListener("online", () => this.wake?.());
    this.#run();
  }

  /** Keep and send; gives the server's answer, which may take long. Each entry is stored alone, so tabs do not clash.
   * more: what `ids` should find that is not in the body. */
  send(path, body, more = {}) {
    const key = body.key ?? newKey();
    this.last = Math.max(this.last + 1, Date.now() * 1000);
    const entry = { name: `${this.prefix}${String(this.last).padStart(18, "0")}:${key}`, path, body: { ...body, key }, ...more };
    this.#store(entry);
    this.waiting.push(entry);
    const answer = new Promise((resolve, reject) => this.answers.set(key, { resolve, reject }));
    answer.catch(() => {}); // whoever does not look at the answer sees the refusal all the same
    this.#changed();
    this.#run();
    return answer;
  }

  /** Ids in what is on the way (`candidate`, or `image`): the server may still offer these. */
  ids(name) {
    return this.waiting.map((entry) => entry.body[name] ?? entry[name]).filter((id) => id !== undefined);
  }

  /** Resolves when all is sent or refused, or when nothing can be sent just now. */
  async idle() {
    while (this.waiting.length && !this.offline && !this.signedOut) await new Promise((resolve) => this.addEventListener("change", resolve, { once: true }));
  }

  dismiss(entry) {
    this.refused = this.refused.filter((other) => other !== entry);
    this.#forget(entry);
    this.#changed();
  }

  async #run() {
    if (this.running || this.signedOut) return;
    this.running = true;
    let pause = FIRST_PAUSE;
    while (this.waiting.length) {
      const entry = this.waiting[0];
      const { resolve, reject } = this.answers.get(entry.body.key) ?? {};
      try {
        const answer = await post(entry.path, entry.body);
        this.waiting.shift();
        this.#forget(entry);
        this.answers.delete(entry.body.key);
        this.offline = false;
        pause = FIRST_PAUSE;
        this.answered += 1;
        resolve?.(answer);
        this.dispatchEvent(new CustomEvent("answer", { detail: answer }));
      } catch (problem) {
        if (problem.signedOut) {
          this.signedOut = true;
          break;
        } else if (problem.passing) {
          this.offline = true;
          this.#changed();
          await new Promise((resolve) => {
            this.wake = resolve;
            setTimeout(resolve, pause * (0.75 + Math.random() / 2));
          });
          pause = Math.min(2 * pause, LONGEST_PAUSE);
          continue;
        } else {
          this.waiting.shift();
          this.answers.delete(entry.body.key);
          entry.problem = problem.message;
          this.refused.push(entry);
          this.#store(entry);
          reject?.(problem);
        }
      }
      this.#changed();
    }
    this.running = false;
    this.#changed();
  }

  #adopt() {
    try {
      const names = Object.keys(this.storage).filter((name) => name.startsWith(this.prefix)).sort();
      for (const name of names) {
        const entry = JSON.parse(this.storage.getItem(name));
        (entry.problem ? this.refused : this.waiting).push(entry);
      }
    } catch {
      this.durable = false;
    }
  }

  #store(entry) {
    try {
      this.storage.setItem(entry.name, JSON.stringify(entry));
      this.durable = true;
    } catch {
      this.durable = false; // full, or forbidden
    }
  }

  #forget(entry) {
    try {
      this.storage.removeItem(entry.name);
    } catch {}
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
