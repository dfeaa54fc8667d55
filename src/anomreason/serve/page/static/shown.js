// The entry on the screen: its image at the left, how it stands or what was found at the right.
//
//   const shown = new Shown(place, { again, forget });
//   await shown.show(entry);

import { make, plain } from "./dom.js";
import { stateOf } from "./entries.js";
import { band, severity } from "./severity.js";
import { Stage } from "./stage.js";
import { DIRECTION, answered, bytes, duration, failure, modelOf, money, ordinal, sourceWords, summary, unsearched } from "./words.js";

export class Shown {
  /** actions: what the buttons do with an entry: `again` sends it again, `forget` takes it off the list, `note` says
   * one short line. */
  constructor(place, actions) {
    Object.assign(this, { place, actions, entry: null });
    setInterval(() => this.#tick(), 1_000);
  }

  /** Show an entry (null: none), anew where its state or its image changed. */
  show(entry) {
    const face = entry && JSON.stringify([entry.key, stateOf(entry), Boolean(entry.preview), entry.unshowable]);
    if (face !== this.face) {
      [this.entry, this.face, this.progress] = [entry, face, null];
      this.place.hidden = !entry;
      this.place.replaceChildren(...(entry ? this.#build(entry) : []));
    }
    if (entry && this.progress) this.#tick();
  }

  #build(entry) {
    const anomalies = [...(entry.job?.detection?.anomalies ?? [])].sort((a, b) => a.severity - b.severity);
    const marked = anomalies.map((anomaly, index) => ({ ...anomaly, number: index + 1 }));
    const title = make("h1", { tabIndex: -1, dir: "auto" }, plain(entry.name));
    const findings = make("section", { className: "findings", ariaLabel: "Result" }, ...this.#findings(entry, marked));
    const stage = make("div", { className: "stage" });
    if (entry.preview || entry.unshowable) {
      this.#link(new Stage(stage, entry.preview, marked, `The image ${plain(entry.name)}`), findings);
    } else if (stateOf(entry) === "refused") return [title, findings];
    else stage.append(make("p", { className: "missing" }, "The image comes from the service …"));
    const viewer = make("section", { className: "viewer", ariaLabel: "Image" }, stage);
    return [title, make("div", { className: "columns" }, viewer, findings)];
  }

  /** Cards and boxes point at each other. */
  #link(stage, findings) {
    const cards = () => [...findings.querySelectorAll(".finding")];
    const light = (number) => {
      stage.light(number);
      for (const card of cards()) card.classList.toggle("lit", Number(card.dataset.number) === number);
    };
    stage.addEventListener("point", ({ detail }) => light(detail));
    stage.addEventListener("choose", ({ detail }) => {
      const card = cards().find(({ dataset }) => Number(dataset.number) === detail);
      card.focus({ preventScroll: true });
      card.scrollIntoView({ block: "nearest" });
      light(detail);
    });
    const of = (event) => {
      const card = event.target.closest?.(".finding");
      return card ? Number(card.dataset.number) : null;
    };
    for (const on of ["pointerover", "focusin"]) findings.addEventListener(on, (event) => light(of(event)));
    for (const off of ["pointerleave", "focusout"]) findings.addEventListener(off, () => light(null));
    findings.addEventListener("click", (event) => event.target.closest("[data-reveal]") && stage.reveal(of(event)));
  }

  #findings(entry, marked) {
    switch (stateOf(entry)) {
      case "done":
        return this.#result(entry, marked);
      case "failed":
        return [this.#failed(entry)];
      case "refused":
        return [this.#refused(entry)];
      default:
        return [this.#working(entry)];
    }
  }

  #result(entry, marked) {
    const { job } = entry;
    const { detection } = job;
    const detector = make("b", { dir: "auto" }, modelOf(detection.detector));
    const unasked = unsearched(detection);
    const text = marked.length
      ? [detector, ` searched the image. Severity: ${DIRECTION}.`]
      : unasked
        ? [unasked[1]]
        : [detector, " searched the image and named no anomaly. That is its opinion, not a proof that nothing is wrong."];
    const source = sourceWords(detection.source);
    const unsure = source && !["generated", "photograph"].includes(detection.source.answer);
    const chips = source ? [make("p", {}, make("span", { className: `chip ${unsure ? "doubt" : "source"}` }, source))] : [];
    const said = detection.description ? [make("p", { className: "said", dir: "auto" }, plain(detection.description))] : [];
    const head = make(
      "div",
      { className: "sum" },
      make("h2", {}, summary(detection)),
      make("p", {}, ...text),
      ...chips,
      ...said,
      this.#facts(job),
      this.#buttons(entry),
    );
    return [head, ...marked.map((anomaly) => card(anomaly)), ...notes(detection)];
  }

  #facts({ detection, cached, usage }) {
    const facts = [];
    if (cached) facts.push("from an earlier search of the same image: nothing was paid");
    else {
      if (typeof detection.seconds === "number") facts.push(duration(detection.seconds));
      const used = usage ?? detection.usage;
      if (used?.calls) facts.push(`${used.calls} question${used.calls === 1 ? "" : "s"} to the model`, money(used.cost));
    }
    const scaled = detection.sent?.notes?.length ? [detection.sent.notes.map(plain).join("; ")] : [];
    return make("p", { className: "hint" }, [...facts, ...scaled].join(" · "));
  }

  #buttons(entry) {
    const text = () => JSON.stringify(entry.job.detection, null, 2);
    const copy = button("Copy as JSON", async () => this.actions.note((await copied(text())) ? "Copied" : "The browser does not let the page copy. Download it instead."));
    return make("p", { className: "buttons" }, copy, button("Download JSON", () => download(text(), `${entry.name.replace(/\.\w{1,5}$/, "")}.json`)));
  }

  #failed(entry) {
    const { kind, message } = entry.job.failure ?? {};
    const [title, advice] = failure(kind);
    const card = problem(title, "This image has no result. That is not the same as “no anomalies”.", advice, message);
    if (entry.file) card.append(make("p", { className: "buttons" }, button("Try again", () => this.actions.again(entry))));
    return card;
  }

  #refused(entry) {
    const { status, message } = entry.problem;
    const lost = status === 404;
    const title = lost ? "The service does not know this image any more" : "This file was not taken";
    const advice = lost ? "It may have been started anew with another folder of jobs, or keep results for a shorter time. Send the image again." : null;
    const card = problem(title, null, advice, lost ? null : message);
    const buttons = [button("Remove it from the list", () => this.actions.forget(entry))];
    if (lost && (entry.file || entry.preview)) buttons.unshift(button("Send it again", () => this.actions.again(entry)));
    card.append(make("p", { className: "buttons" }, ...buttons));
    return card;
  }

  #working(entry) {
    const bar = make("progress", { ariaLabel: "How far it is" });
    const title = make("h2"), text = make("p"), time = make("p", { className: "hint" });
    this.progress = { title, text, bar, time };
    return make("article", { className: "quiet working" }, title, bar, text, time);
  }

  /** Bring the card of the progress up to date. */
  #tick() {
    const { entry, progress } = this;
    if (!progress) return;
    const [title, text, share] = this.#step(entry);
    progress.title.textContent = title;
    progress.text.textContent = text;
    if (share === null) progress.bar.removeAttribute("value");
    else progress.bar.value = share;
    const waited = Math.max(0, Math.floor((Date.now() - entry.added) / 1000));
    progress.time.textContent = `${waited < 60 ? `${waited} s` : duration(waited)} so far`;
  }

  /** Title, text and share of what is done (null: not known) of an entry that is not at its end. */
  #step(entry) {
    const { job, sent, trouble } = entry;
    const later = "You may close this page and come back: the work goes on, and this browser finds it again.";
    switch (stateOf(entry)) {
      case "waiting":
        if (typeof sent === "number") return [`Uploading ${bytes(entry.size)}`, "Keep this page open until the image is there.", sent];
        if (trouble) return [...this.#trouble(trouble), null];
        return ["Waits to be sent", "It is kept in this browser, and sent after those before it.", null];
      case "queued":
        return [`In the queue: ${ordinal((job?.position ?? 0) + 1)} in line`, later, null];
      default:
        if (!job.progress) return ["The model looks at the image", later, null];
        return [
          capital(plain(job.progress.step)) || "The model looks at the image",
          `${answered(job.progress)} ${later}`,
          job.progress.of > 1 ? Math.min(1, job.progress.done / job.progress.of) : null,
        ];
    }
  }

  #trouble({ status, message, until }) {
    const left = Math.ceil((until - Date.now()) / 1000);
    const soon = left > 0 ? `Tried again in ${left} s, by itself.` : "Tried again now.";
    if (!status) return ["The service cannot be reached", `The image is kept in this browser and sent when the service is back. ${soon}`];
    return ["The service does not take it yet", `${plain(message)}. ${soon}`];
  }
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

function card({ number, name, phenomenon, reasoning, severity: value, kind, objects, region, basis }) {
  const mark = region
    ? make("button", { type: "button", className: "number", ariaLabel: `Show anomaly ${number} in the image` }, `${number}`)
    : make("span", { className: "number" }, `${number}`);
  if (region) mark.dataset.reveal = "";
  const chips = [
    ...(kind ? [make("span", { className: "chip" }, plain(kind).replaceAll("_", " "))] : []),
    ...(objects ?? []).map((object) => make("span", { className: "chip", dir: "auto" }, plain(object))),
    ...(region ? [] : [make("span", { className: "hint" }, "no place given")]),
  ];
  const text = (words) => make("p", { className: "said", dir: "auto" }, plain(words));
  const made = make(
    "article",
    { className: `finding band-${band(value)}`, tabIndex: -1, ariaLabel: `Anomaly ${number}` },
    make("h2", {}, mark, " ", make("span", { dir: "auto" }, plain(name))),
    severity(value),
    make("h3", {}, "What can be seen"),
    text(phenomenon),
    make("h3", {}, "Why it cannot be"),
    text(reasoning),
    ...checked(basis),
    ...(chips.length ? [make("p", { className: "chips" }, ...chips)] : []),
  );
  made.dataset.number = number;
  return made;
}

/** What the check of an anomaly said. */
function checked(basis) {
  const score = typeof basis?.score === "number" ? [`score ${Math.round(basis.score)} of 100`] : [];
  const said = [...score, ...(basis?.reason ? [plain(basis.reason)] : [])].join(": ");
  return said ? [make("h3", {}, "Checked"), make("p", { className: "said", dir: "auto" }, said)] : [];
}

/** What was looked at and what was assumed, folded. */
function notes({ detector, objects = [], notes = [], candidates = [] }) {
  const dropped = candidates.filter((candidate) => candidate.dropped);
  const line = (text) => make("li", { dir: "auto" }, plain(text));
  const parts = [];
  const seen = ({ name, counts = [] }) => plain(name) + (counts.length ? ` (${counts.map(({ part, count }) => `${plain(part)}: ${count}`).join(", ")})` : "");
  if (objects.length) parts.push(make("h3", {}, "What it saw"), make("p", { dir: "auto" }, objects.map(seen).join(", ")));
  if (dropped.length) parts.push(make("h3", {}, "What it considered and dropped"), make("ul", {}, ...dropped.map(({ name, dropped: why }) => line(`${name}: ${why}`))));
  if (notes.length) parts.push(make("h3", {}, "Notes"), make("ul", {}, ...notes.map(line)));
  parts.push(make("h3", {}, "Model and schedule"), make("p", { dir: "auto" }, plain(detector)));
  return [make("details", { className: "fold" }, make("summary", {}, "What the detector looked at"), ...parts)];
}

function problem(title, text, advice, message) {
  const card = make("article", { className: "failure" }, make("h2", {}, title));
  if (text) card.append(make("p", {}, text));
  if (advice) card.append(make("p", {}, make("b", {}, "What to do: "), advice));
  if (message) card.append(make("p", { className: "message", dir: "auto" }, plain(message)));
  return card;
}

function button(text, action) {
  const made = make("button", { type: "button" }, text);
  made.addEventListener("click", action);
  return made;
}

/** Put a text on the clipboard, also at a plain http address, where the modern way is not there; whether it worked. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = make("textarea", { value: text, className: "hidden", ariaHidden: "true" });
    document.body.append(field);
    field.select();
    const worked = document.execCommand("copy");
    field.remove();
    return worked;
  }
}

function download(text, name) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
