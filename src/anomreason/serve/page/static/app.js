// The page where one drops an image and sees what is wrong in it.

import { Problem, get, jobImage, known, leave } from "./api.js";
import { count, make, plain } from "./dom.js";
import { Entries, MOST, stateOf } from "./entries.js";
import { takeFiles, unfit } from "./incoming.js";
import { List } from "./list.js";
import { preview } from "./previews.js";
import { Sender } from "./sender.js";
import { Shown } from "./shown.js";
import { Watcher } from "./watcher.js";
import { bytes, failure, modelOf, standing, summary } from "./words.js";

const SHOWN_SIDE = 2048, THUMB_SIDE = 320; // pixels, the longer side of the copies that this browser keeps
const AGAIN = 5_000; // milliseconds between two tries to reach the service

const byId = (id) => document.getElementById(id);

class Desk {
  constructor(entries) {
    this.entries = entries;
    this.me = null;
    this.asked = this.heard = 0; // questions who this is, and the latest that was answered
    this.current = null; // the entry on the screen
    this.copying = Promise.resolve();
    this.sender = new Sender(entries);
    this.watcher = new Watcher(entries);
    this.list = new List(byId("entries"), { remove: (entry) => this.forget(entry) });
    this.shown = new Shown(byId("shown"), { again: (entry) => this.again(entry), forget: (entry) => this.forget(entry), note });
    entries.addEventListener("list", () => this.render());
    entries.addEventListener("change", ({ detail }) => this.changed(detail));
    for (const [from, event] of [[this.sender, "hold"], [this.watcher, "trouble"]]) from.addEventListener(event, () => this.state());
  }

  /** Ask who this is and what the service takes, until it answers. */
  async meet() {
    clearTimeout(this.meeting);
    this.meeting = null;
    const turn = ++this.asked;
    let me = null, lost = null;
    try {
      me = await get("/v1/me");
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      lost = problem;
    }
    if (turn < this.heard) return; // a later question was answered first
    this.heard = turn;
    this.lost = lost;
    if (me) {
      this.me = me;
      if (this.sender.held?.signedOut) this.sender.wake();
      this.watcher.wake();
    } else this.meetLater();
    this.state();
  }

  /** Somebody looks at this tab again: others may have changed the list, or were closed before they sent all. */
  async back() {
    await this.entries.reload();
    if (!this.sender.held) this.sender.wake();
    if (this.lost) this.meet();
  }

  meetLater() {
    this.meeting ??= setTimeout(() => this.meet(), AGAIN);
  }

  /** What the whole page has to say: signed out, not reached, no budget. */
  state() {
    const refused = [this.sender.held, this.watcher.problem, this.lost].filter(Boolean);
    const signedOut = refused.find((problem) => problem.signedOut);
    const broke = refused.find((problem) => problem.broke);
    const away = refused.find((problem) => problem.passing);
    const banner = byId("banner");
    byId("enter").hidden = !signedOut;
    byId("drop").hidden = Boolean(signedOut) && !this.me;
    const retry = make("button", { type: "button" }, "Try again");
    retry.addEventListener("click", () => this.sender.wake());
    const said = signedOut
      ? ["You are signed out. Open the link that you were given again in this browser, or enter your token below. What waits here is sent then."]
      : broke
        ? [`${plain(broke.message)}. The images wait in this browser. `, retry]
        : away
          ? ["The service cannot be reached just now. This page tries again by itself; what is on the list stays."]
          : [];
    const text = said.map((part) => part.textContent ?? part).join("");
    if (banner.textContent !== text) banner.replaceChildren(...said);
    banner.hidden = !said.length;
    if (signedOut) this.meetLater();
    if (this.me) this.about();
  }

  /** The service, in the line at the top. */
  about() {
    const { client, limits, allowance } = this.me;
    const parts = ["Model: ", make("b", { dir: "auto" }, modelName(this.me))];
    if (client) parts.push(` · ${plain(client)}`);
    for (const rest of left(allowance)) parts.push(` · ${rest} left`);
    byId("service").replaceChildren(...parts);
    byId("leave").hidden = !client;
    byId("simulated").hidden = !this.me.simulated;
    byId("about").hidden = false;
    byId("about").textContent = aboutWords(this.me);
    byId("limit").textContent = `up to ${bytes(limits.upload_bytes)} each`;
  }

  /** Put files on the list and send them. */
  async take(files) {
    const taken = files.slice(0, MOST);
    if (taken.length < files.length) note(`Only the first ${MOST} were taken. For many images, use \`anomreason detect\` on the command line.`);
    const fields = taken.map((file) => {
      const reason = unfit(file, this.me?.limits.upload_bytes);
      const fit = reason ? { file: null, problem: { status: 400, message: reason } } : { file };
      return { name: file.name || "image", size: file.size, ...fit };
    });
    const added = this.entries.add(fields);
    for (const entry of added) this.obtain(entry);
    this.open(added[0]);
    this.sender.wake();
  }

  /** Get the small copies of an image that this browser keeps and shows: from its file, or else from the service. */
  async obtain(entry) {
    if (entry.preview || entry.problem) return;
    const { file } = entry; // it is let go when the result is there
    entry.own ??= this.copying = this.copying.then(() => Boolean(file) && this.copy(entry, file)); // one at a time
    if ((await entry.own) || !entry.id || entry.asked) return;
    entry.asked = true; // e.g. HEIC, which few browsers read
    const blob = await jobImage(entry.id);
    if (!blob || !(await this.copy(entry, blob))) this.entries.touch(entry, { unshowable: true });
  }

  async copy(entry, file) {
    try {
      const { blob, width, height } = await preview(file, SHOWN_SIDE);
      const thumb = (await preview(blob, THUMB_SIDE)).blob;
      this.entries.change(entry, { preview: blob, thumb, width, height });
      return true;
    } catch {
      return false;
    }
  }

  again(entry) {
    const file = entry.file ?? entry.preview;
    this.entries.change(entry, { id: null, job: null, problem: null, file });
    this.sender.wake();
  }

  forget(entry) {
    this.entries.remove(entry);
    if (this.current === entry) this.open(null);
    byId("list-title").focus();
  }

  forgetAll() {
    this.entries.remove(...this.entries.all);
    this.open(null);
  }

  open(entry) {
    const hash = entry ? `#${entry.id ?? entry.key}` : "";
    if (location.hash !== hash) history.pushState(null, "", hash || location.pathname);
    this.choose(entry);
  }

  choose(entry) {
    this.current = entry;
    this.announced = null;
    this.watcher.look(entry);
    this.render();
  }

  /** Show what the address names; a job that this browser does not know is fetched. */
  async route() {
    const { hash } = location;
    const name = /^#([\w-]{1,100})$/.exec(hash)?.[1]; // whatever else stands there is nobody's
    let entry = this.entries.find(name) ?? null;
    if (name && !entry) {
      try {
        const job = await get(`/v1/jobs/${encodeURIComponent(name)}`);
        if (location.hash !== hash) return; // somebody went on
        entry = this.entries.find(name) ?? this.entries.add([{ name: job.name || "image", size: 0, file: null, id: job.id, job }])[0];
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (location.hash !== hash) return;
        if (!problem.passing && !problem.signedOut) note("The service does not know the image of this address. Drop one.");
      }
    }
    this.choose(entry);
  }

  changed(entry) {
    this.list.refresh(entry);
    const state = stateOf(entry);
    if (entry.stood !== state && ["done", "failed"].includes(state)) this.meet(); // what is left of the budget
    entry.stood = state;
    if (entry !== this.current) {
      this.obtain(entry);
      return;
    }
    const hash = `#${entry.id ?? entry.key}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
    this.watcher.look(entry);
    this.renderCurrent();
  }

  render() {
    const { all, durable } = this.entries;
    if (this.current && !all.includes(this.current)) this.current = this.entries.find(this.current.id) ?? null;
    byId("list").hidden = !all.length;
    byId("list-title").textContent = `Images of this browser (${all.length})`;
    byId("kept").textContent = durable
      ? `Small copies and results, the latest ${MOST}. They stay in this browser; nobody else sees them.`
      : "This browser has no room to keep them: the list ends with this tab.";
    this.list.show(all, this.current);
    this.renderCurrent();
  }

  renderCurrent() {
    const entry = this.current;
    document.body.classList.toggle("busy", Boolean(entry));
    if (entry) this.obtain(entry);
    this.shown.show(entry);
    document.title = entry ? `${titleOf(entry)} · ${plain(entry.name)}` : "What is wrong in an image?";
    this.announce(entry);
  }

  /** Say how it goes to those who do not see it: each step once. */
  announce(entry) {
    if (!entry) return;
    const { job } = entry;
    const state = stateOf(entry);
    const text = state === "running" && job.progress ? plain(job.progress.step) : state === "waiting" ? (entry.sent === undefined || entry.sent === null ? "Waits to be sent" : "Uploading") : titleOf(entry);
    if (text === this.announced) return;
    this.announced = text;
    byId("live").textContent = `${plain(entry.name)}: ${text}`;
  }
}

/** How an entry stands, with the kind of a failure. */
function titleOf(entry) {
  const state = stateOf(entry);
  if (state === "done") return summary(entry.job.detection);
  if (state === "failed") return failure(entry.job.failure?.kind)[0];
  return standing(entry);
}

/** What happens to an image, before somebody sends one. */
function aboutWords({ keeps_images: keeps, keep_days: days, ...me }) {
  const what = "A model looks for what cannot be so, such as a hand with six fingers or a cup in mid-air, and says where it shows and why it is impossible.";
  const image = keeps ? `The service keeps the image for ${days} days.` : "The service deletes the image when it is done.";
  const kept = "What was found stays there, so that the same image is not paid for again.";
  return `${what} Your image goes to this service and its model, ${modelName(me)}. ${image} ${kept}`;
}

const modelName = ({ model, schedule }) => modelOf(`${model} ${schedule}`);

/** What is left of the budget of the one who asks, as texts; none where there is no limit. */
function left({ max_cost: cost, max_tokens: tokens, spent }) {
  const rests = [];
  if (cost !== null) rests.push(`$${Math.max(0, cost - (spent.cost ?? 0)).toFixed(2)}`);
  if (tokens !== null) rests.push(`${count(Math.max(0, tokens - spent.prompt_tokens - spent.completion_tokens))} tokens`);
  return rests;
}

/** One short line about what just happened. */
function note(text) {
  const line = byId("note");
  line.textContent = text;
  line.className = "toast";
  clearTimeout(note.fading);
  note.fading = setTimeout(() => (line.className = "hidden"), 3_000 + 40 * text.length);
}

/** Listen from the first moment on: a file that is dropped before the list is open waits for it. */
function listen(opening) {
  const take = (files) => opening.then((desk) => desk.take(files));
  takeFiles(document.body, take, note);
  for (const field of document.querySelectorAll("input[type=file]")) {
    field.addEventListener("change", () => {
      take([...field.files]);
      field.value = ""; // the same file can be chosen again
    });
  }
  for (const button of document.querySelectorAll("[data-picks]")) button.addEventListener("click", () => byId(button.dataset.picks).click());
  byId("clear").addEventListener("click", () => byId("sure").showModal());
  byId("sure").addEventListener("close", ({ target }) => target.returnValue === "remove" && opening.then((desk) => desk.forgetAll()));
  byId("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    enter(byId("token").value.trim());
  });
  byId("leave").addEventListener("click", () => leave().then(() => location.reload(), (problem) => note(problem.message)));
}

/** Sign in with a token, if it is one. */
async function enter(token) {
  const wrong = (text) => (byId("wrong").textContent = text);
  try {
    if (await known(token)) location.assign(`/enter/${encodeURIComponent(token)}`);
    else wrong("This token is not known here. Ask for a new one.");
  } catch (problem) {
    wrong(problem.message);
  }
}

async function start() {
  const opening = Entries.open().then((entries) => new Desk(entries));
  listen(opening);
  const desk = await opening;
  const { entries } = desk;
  addEventListener("hashchange", () => desk.route().then(() => document.querySelector("#shown h1")?.focus()));
  addEventListener("popstate", () => desk.route());
  document.addEventListener("visibilitychange", () => !document.hidden && desk.back());
  addEventListener("online", () => desk.meet());
  for (const entry of entries.all) if (entry.file) desk.obtain(entry); // the tab was closed before
  if (!desk.current) await desk.route();
  await desk.meet();
}

start();
