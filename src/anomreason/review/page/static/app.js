// The review page: which mode is on, and what all modes share.

import { get, Problem } from "./api.js";
import { Candidates } from "./candidates.js";
import { clone, count, make, plain } from "./dom.js";
import { Groups } from "./groups.js";
import { Annotating, Keeping } from "./images.js";
import { ACTIONS, Keys } from "./keys.js";
import { Outbox } from "./outbox.js";
import { REJECT_REASONS, SAID, reasonOf } from "./reasons.js";
import { Stage } from "./stage.js";
import { WholeImages } from "./whole.js";

const BELATED = 700; // milliseconds after a rejection in which a digit is its reason

const byId = (id) => document.getElementById(id);

/** Title, text and whether the page goes on by itself. */
const STATES = {
  finished: ["All done", "Every candidate of this round has the verdicts that it needs. Thank you! You can close this page."],
  settled: ["No disagreement is left", "Wherever people disagreed, a verdict settles it now."],
  empty: ["Nothing for you just now", "Others have the last candidates open. If they leave them, they come to you: this page looks again by itself."],
  working: ["One moment", "The next candidate is on its way."],
  sending: ["One moment", "Your last verdicts are on their way."],
  offline: ["The server cannot be reached", "Your verdicts are safe in this browser and are sent when the server is back. This page tries again by itself. If it stays like this, ask the person who runs the review."],
  ended: ["You are signed out", "Open the link that you were given again, in this browser. Verdicts that were not sent yet wait here and are sent then."],
  images: ["No image is left", "You have seen all images that wait here. You can close this page, or choose something else above."],
};

/** What all modes share: who reviews, the keys, what is sent, the lines at the top. */
class Desk {
  constructor(me, keys, outbox) {
    Object.assign(this, { me, keys, outbox });
    this.history = []; // of this tab: {items, choice, verdicts}, the latest last; verdicts: how many were sent
    this.outlined = true;
    this.counts = null;
    outbox.addEventListener("change", () => this.refresh());
    outbox.addEventListener("answer", ({ detail }) => detail.progress && this.progress(detail.progress));
    this.refresh();
  }

  /** Send in the background. more: see `Outbox.send`. */
  send(path, body, more) {
    return this.outbox.send(path, body, more);
  }

  /** Send the same verdict on each of some items, and remember them together for undo. */
  judge(items, verdict) {
    const { choice } = verdict;
    const entry = { items, choice, verdicts: 0 };
    const what = items.length === 1 ? plain(items[0].name) : `${items.length} candidates`;
    const give = (reason) => {
      for (const { candidate } of items) this.send("/api/verdict", { candidate, ...verdict, ...(reason ? { reason } : {}) });
      entry.verdicts += items.length;
      this.note(`${SAID[choice]}${reason ? ` (${reason})` : ""}: ${what}`);
    };
    give(verdict.reason);
    this.history.push(entry);
    if (choice === "reject" && !verdict.reason) this.rejected(REJECT_REASONS, give);
  }

  /** Take the latest verdict back, with the reason that came after it. Gives what this tab knows of it, and the answer. */
  undo() {
    const last = this.history.pop();
    let answer = this.send("/api/undo", {});
    for (let more = last?.verdicts ?? 1; more > 1; more -= 1) answer = this.send("/api/undo", {});
    return { last, answer };
  }

  /** Ask the owner to look at an item; once is enough. */
  flag(item) {
    if (this.flagged(item)) this.note("It is flagged already. Undo takes it back.");
    else this.judge([item], { choice: "flag" });
  }

  /** Whether an item was flagged in this tab, and the flag not taken back. */
  flagged({ candidate }) {
    return this.history.some(({ items, choice }) => choice === "flag" && items[0].candidate === candidate);
  }

  /** Show on the flag's button in `root` whether an item is flagged. */
  markFlag(root, item) {
    const button = root.querySelector('[data-action="flag"]');
    const flagged = this.flagged(item);
    button.setAttribute("aria-pressed", flagged);
    button.firstChild.textContent = flagged ? "Flagged" : "Flag";
  }

  /** Something was rejected without a reason; `explain` gets the reason if its key is pressed next, at once. */
  rejected(reasons, explain) {
    this.unexplained = { reasons, explain, until: performance.now() + BELATED };
  }

  /** Whether a key pressed at `time` gives the reason for what was rejected, and does not mean what is shown by now. */
  explains(action, time) {
    const { unexplained } = this;
    this.unexplained = null;
    const reason = unexplained && time < unexplained.until && reasonOf(action, unexplained.reasons);
    if (reason) unexplained.explain(reason);
    return Boolean(reason);
  }

  /** The next candidates. */
  async next(number, have) {
    const { answered } = this.outbox;
    const answer = await get(`/api/next?count=${number}&have=${have}`);
    // Counts from before the last verdict are not shown after it.
    if (answered === this.outbox.answered) this.progress(answer.progress);
    return answer;
  }

  progress(counts) {
    this.counts = counts;
    this.refresh();
  }

  refresh() {
    const { waiting, refused, offline, signedOut, durable } = this.outbox;
    if (this.counts) {
      const { verdicts, wanted, mine, share, low, high } = this.counts;
      const bar = make("progress", { max: Math.max(1, wanted), value: verdicts });
      bar.setAttribute("aria-label", "Verdicts of all people");
      const percent = (value) => `${(100 * value).toFixed(1)} %`;
      const known = typeof share === "number";
      const interval = known ? `${percent(share)} correct (${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)})` : "no estimate yet";
      const all = make("span", { className: "all-people" }, ` · ${count(verdicts)} of ${count(wanted)}`);
      const estimate = known || this.me.owner ? [make("span", { className: "estimate" }, ` · ${interval}`)] : [];
      byId("progress").replaceChildren(bar, make("span", {}, `${count(mine)} by you`, all, ...estimate));
    }
    const line = byId("connection");
    const kept = waiting.length === 1 ? "1 waits here" : `${count(waiting.length)} wait here`;
    line.className = signedOut || offline ? "bad" : "";
    line.textContent = signedOut
      ? `Signed out: open your link again${waiting.length ? ` (${kept})` : ""}`
      : offline && waiting.length
        ? `Offline: ${kept}, sent when the server is back${durable ? "" : "; do not close this tab"}`
        : "";
    const list = byId("refused");
    list.hidden = !refused.length;
    list.replaceChildren(
      ...refused.map((entry) => {
        const dismiss = make("button", { type: "button" }, "Dismiss");
        dismiss.addEventListener("click", () => this.outbox.dismiss(entry));
        return make("li", {}, `The server did not take something that you sent: ${entry.problem} `, dismiss);
      }),
    );
  }

  /** One short line about what just happened. */
  note(text) {
    byId("note").textContent = text;
    byId("note").className = "toast";
    clearTimeout(this.fading);
    this.fading = setTimeout(() => (byId("note").className = "hidden"), 2500);
  }

  /** An image with its buttons. */
  viewer() {
    const root = clone("viewer");
    this.keys.mark(root);
    root.querySelector('[data-action="outline"]').setAttribute("aria-pressed", this.outlined);
    return { root, stage: new Stage(root.querySelector(".stage")) };
  }

  toggleOutline() {
    this.outlined = !this.outlined;
    for (const button of document.querySelectorAll('[data-action="outline"]')) button.setAttribute("aria-pressed", this.outlined);
  }

  /** Say on the stage that there is no image; null: there is one. */
  missing(stage, text) {
    stage.place.querySelector(".missing")?.remove();
    if (text) stage.place.append(make("p", { className: "missing" }, text));
  }

  /** Nothing is there to show: say why. Gives the milliseconds after which to look again. finished: the state then. */
  async nothing(feed, finished = "finished") {
    if (!feed.problem && this.outbox.waiting.length && !this.outbox.offline && !this.outbox.signedOut) {
      this.state("sending"); // what is on the way is not counted yet
      await this.outbox.idle();
      return 0;
    }
    const { signedOut, offline, waiting } = this.outbox;
    const gone = signedOut || feed.problem?.signedOut;
    const state = gone ? "ended" : feed.problem || (offline && waiting.length) ? "offline" : feed.state === "finished" ? finished : feed.state;
    this.state(state, feed.problem);
    return state === "offline" ? 2_000 : state === "working" ? 500 : 10_000;
  }

  /** A page that says how things stand and what to do. */
  state(name, problem) {
    const page = clone("state");
    const [title, text] = STATES[name];
    page.dataset.state = name;
    page.querySelector("h1").textContent = title;
    page.querySelector("p").textContent = name === "offline" && problem?.status ? `${text} (${problem.message})` : text;
    if (name === "finished" && this.me.owner) {
      page.querySelector(".buttons").append(make("a", { href: "/owner", className: "primary" }, "See the results"));
    }
    byId("main").replaceChildren(page);
  }
}

function modes(desk) {
  return {
    candidates: new Candidates(desk),
    images: new WholeImages(desk),
    groups: new Groups(desk),
    annotate: new Annotating(desk),
    keep: new Keeping(desk),
    disputed: new Candidates(desk, true),
  };
}

async function start() {
  const me = await get("/api/me");
  const keys = await Keys.of(me.keys);
  const outbox = new Outbox(`${me.begun}/${me.round}/${me.person}`, storage());
  const desk = new Desk(me, keys, outbox);
  const all = modes(desk);
  let mode = null;
  for (const link of document.querySelectorAll("[data-owner]")) link.hidden = !me.owner;

  const choose = () => {
    const name = all[location.hash.slice(1)] ? location.hash.slice(1) : "candidates";
    for (const link of document.querySelectorAll("#modes a")) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    mode?.end();
    mode = all[name];
    mode.begin(byId("main"));
  };
  const act = (action) => {
    if (action === "help") {
      if (!byId("keys").open) byId("keys").showModal();
      return true;
    }
    return mode.act(action);
  };

  addEventListener("hashchange", () => {
    byId("main").focus(); // so that Enter does not follow the same link again
    choose();
  });
  addEventListener("beforeunload", (event) => !outbox.durable && outbox.waiting.length && event.preventDefault());
  addEventListener("keydown", (event) => {
    const action = keys.action(event);
    if (action && (desk.explains(action, event.timeStamp) || act(action))) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (!button) return;
    desk.unexplained = null;
    act(button.dataset.action);
  });
  // A click leaves the focus where it is, so that the space bar does not press the same button again.
  document.addEventListener("mousedown", (event) => event.target.closest("[data-action]") && event.preventDefault());
  byId("help").addEventListener("click", () => act("help"));
  for (const [actions, text] of ACTIONS) {
    const caps = actions.flatMap((action) => keys.labels(action)).flatMap((label) => [make("kbd", {}, label), " "]);
    byId("key-list").append(make("div", {}, make("dt", {}, ...caps), make("dd", {}, text)));
  }
  byId("help").append(" ", make("kbd", { ariaHidden: "true" }, keys.labels("help")[0] ?? ""));
  choose();
}

function storage() {
  try {
    return localStorage;
  } catch {
    return null; // forbidden: what is not sent lives as long as the tab
  }
}

function failed(problem) {
  const page = clone("state");
  const [title, text] = STATES[problem.signedOut ? "ended" : "offline"];
  page.dataset.state = problem.signedOut ? "ended" : "offline";
  page.querySelector("h1").textContent = title;
  page.querySelector("p").textContent = text;
  byId("main").replaceChildren(page);
  if (!(problem instanceof Problem)) throw problem;
  if (!problem.signedOut) setTimeout(() => start().catch(failed), 2000);
}

start().catch(failed);
