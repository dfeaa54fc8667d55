// The images that this browser sent: kept in its IndexedDB, seen by nobody else, at most 50.
//
//   const entries = await Entries.open();
//   const [entry] = entries.add([{ name: "a.png", file }]);
//   entries.change(entry, { job });    // kept, and told by the event `change`

export const MOST = 50;

const ENDED = new Set(["done", "failed"]);

/** How an entry stands: `waiting` (not sent), `queued`, `running`, `done`, `failed`, or `refused` (not taken). */
export function stateOf({ id, job, problem }) {
  if (problem) return "refused";
  return job?.state ?? (id ? "queued" : "waiting");
}

/** Whether nothing more happens to it by itself. */
export const ended = (entry) => stateOf(entry) === "refused" || ENDED.has(entry.job?.state);

/** Fires `change` with one entry, `list` when entries came or went. */
export class Entries extends EventTarget {
  /** An entry: {key, added, place, name, size, file, preview, thumb, width, height, id, job, problem}.
   * added: when, in milliseconds, the same for all that came together; place: which of these it is, from 0.
   * file: the image itself, until the service has its result; problem: {status, message} why it was not taken. */
  static async open() {
    const entries = new Entries();
    entries.database = await opened();
    if (entries.database) entries.database.onclose = () => entries.#close();
    await entries.reload();
    return entries;
  }

  constructor() {
    super();
    this.all = []; // the latest first; those that came together in their order
    this.removed = new Set(); // keys
    this.full = false; // whether the browser had no room for something
  }

  /** Whether the entries survive the end of the tab. */
  get durable() {
    return Boolean(this.database) && !this.full;
  }

  /** Read what other tabs added, changed and removed. What this tab has already stays the same object. */
  async reload() {
    if (!this.database) return;
    let stored;
    try {
      stored = await asked(this.database.transaction("entries").objectStore("entries").getAll());
    } catch {
      return; // it is just being forgotten
    }
    const own = new Map(this.all.map((entry) => [entry.key, entry]));
    const names = this.all.map(({ key }) => key).join();
    const changed = [];
    for (const each of stored) {
      const known = own.get(each.key);
      if (this.removed.has(each.key)) continue; // while it was read
      if (!known) own.set(each.key, Object.assign(each, { kept: true }));
      else if (!known.unkept && face(known) !== face(each)) changed.push(Object.assign(known, each)); // by another tab
    }
    const kept = new Set(stored.map(({ key }) => key));
    this.all = [...own.values()].filter((entry) => kept.has(entry.key) || entry.unkept).sort((a, b) => b.added - a.added || a.place - b.place);
    if (this.all.map(({ key }) => key).join() !== names) this.dispatchEvent(new Event("list"));
    for (const entry of changed) this.dispatchEvent(new CustomEvent("change", { detail: entry }));
  }

  /** Put entries on the list that came together, by their fields; gives them. */
  add(fields) {
    const added = Math.max(Date.now(), (this.all[0]?.added ?? 0) + 1);
    const made = fields.map((each, place) => ({ key: newKey(), added, place, id: null, job: null, problem: null, ...each }));
    this.all.unshift(...made);
    this.#trim();
    for (const entry of made) if (this.all.includes(entry)) this.#keep(entry, entry);
    this.dispatchEvent(new Event("list"));
    return made;
  }

  /** All in the order in which they came. */
  get inTurn() {
    return [...this.all].sort((a, b) => a.added - b.added || a.place - b.place);
  }

  change(entry, fields) {
    if (!this.all.includes(entry)) return; // removed meanwhile
    Object.assign(entry, fields);
    this.#keep(entry, fields);
    this.dispatchEvent(new CustomEvent("change", { detail: entry }));
  }

  /** As `change`, for what need not survive a reload. */
  touch(entry, fields) {
    Object.assign(entry, fields);
    this.dispatchEvent(new CustomEvent("change", { detail: entry }));
  }

  remove(...removed) {
    this.all = this.all.filter((entry) => !removed.includes(entry));
    for (const { key } of removed) this.removed.add(key);
    if (this.database) {
      const store = this.database.transaction("entries", "readwrite").objectStore("entries");
      for (const { key } of removed) store.delete(key);
    }
    this.dispatchEvent(new Event("list"));
  }

  /** An entry by its own name or by that of its job. */
  find(name) {
    return this.all.find(({ key, id }) => name && (id === name || key === name));
  }

  /** The oldest ones go, but none that still waits for its result. */
  #trim() {
    const over = this.all.length - MOST;
    if (over > 0) this.remove(...this.all.filter(ended).slice(-over));
  }

  /** Keep the fields that changed: another tab may have changed the others, or removed the entry. */
  async #keep(entry, fields) {
    if (!this.database) return;
    const mark = (entry.unkept = {}); // until it is: what is read meanwhile does not hold it yet
    try {
      const transaction = this.database.transaction("entries", "readwrite");
      const store = transaction.objectStore("entries");
      const request = store.get(entry.key);
      request.onsuccess = () => {
        if (request.result) store.put({ ...request.result, ...lasting(fields) });
        else if (!entry.kept) store.put(lasting(entry));
        else this.#lose(entry);
      };
      await new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = transaction.onerror = () => reject(transaction.error);
      });
      entry.kept = true;
      if (entry.unkept === mark) entry.unkept = null;
    } catch {
      this.full = true; // no room: it lives as long as the tab
      this.dispatchEvent(new CustomEvent("change", { detail: entry }));
    }
  }

  /** Somebody had the browser forget what this site keeps: the list lives as long as the tab. */
  #close() {
    this.database = null;
    this.dispatchEvent(new Event("list"));
  }

  /** Another tab removed it. */
  #lose(entry) {
    this.all = this.all.filter((other) => other !== entry);
    this.dispatchEvent(new Event("list"));
  }
}

/** The fields that are not of this tab alone. */
function lasting({ sent, trouble, own, asked, stood, unshowable, unkept, kept, ...others }) {
  return others;
}

/** What differs when another tab changed an entry. */
const face = ({ id, job, problem, file, preview }) => JSON.stringify([id, job, problem, Boolean(file), Boolean(preview)]);

/** Random, also where `crypto.randomUUID` is not there: on a plain http address. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** The browser's database; null where it is forbidden. */
async function opened() {
  try {
    const request = indexedDB.open("anomreason", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("entries", { keyPath: "key" });
    return await asked(request);
  } catch {
    return null;
  }
}
