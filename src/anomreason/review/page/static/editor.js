// The form in which a person writes an anomaly, or corrects one.
//
//   side.append(new Editor(stage, { title: "Edit", fields: item, kinds, reasons, save, cancel }).root);

import { clone, make, part, plain } from "./dom.js";
import { EDIT_REASONS } from "./reasons.js";
import { band } from "./severity.js";

const TEXTS = ["name", "phenomenon", "reasoning", "kind"];

/** How a kind reads: `missing_part` is "missing part". */
export const readable = (kind) => plain(kind).replaceAll("_", " ");

export class Editor {
  /** options: title, hint, fields (what stood there at first), draft (what stands there now, if not that), kinds,
   * reasons ([[value, text]] or null), save, cancel. */
  constructor(stage, options) {
    Object.assign(this, { stage, options });
    const form = (this.root = clone("editor"));
    part(form, "title").textContent = options.title;
    part(form, "hint").textContent = options.hint;
    this.fields = options.fields;
    const now = options.draft ?? options.fields;
    const shown = (fields, name) => (name === "kind" ? readable(fields[name]) : plain(fields[name]));
    for (const name of TEXTS) form.elements[name].value = shown(this.fields, name);
    this.first = this.#texts();
    for (const name of TEXTS) form.elements[name].value = shown(now, name);
    form.elements.severity.value = Math.round(now.severity ?? 50);
    form.elements.severity.addEventListener("input", () => {
      this.unset = false;
      this.#severity();
    });
    this.unset = typeof now.severity !== "number";
    this.#severity();
    form.querySelector("datalist").append(...options.kinds.map((kind) => make("option", { value: readable(kind) })));
    const { reason } = form.elements;
    if (options.reasons) {
      reason.append(make("option", { value: "" }, "Choose …"));
      reason.append(...options.reasons.map(([value, text]) => make("option", { value }, text)));
    } else {
      part(form, "reason").remove();
    }
    this.region = now.region;
    stage.draw(this.region, (region) => (this.region = region));
    part(form, "nobox").addEventListener("click", () => {
      this.region = null;
      stage.draw(null, (region) => (this.region = region));
      stage.outline([]); // nor the one that stood there
    });
    part(form, "save").textContent = options.save.label;
    part(form, "cancel").textContent = options.cancel.label;
    part(form, "cancel").addEventListener("click", () => options.cancel.action());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#save();
      else if (event.key === "Escape") options.cancel.action();
      else return;
      event.preventDefault();
    });
  }

  focus() {
    this.root.elements.name.focus();
  }

  /** Say what keeps the form from being saved, and go to that field. */
  complain(text, field) {
    this.root.querySelector(".error").textContent = text;
    this.root.elements[field].focus();
  }

  /** What stands in the form; a known kind by its name in the dataset. */
  get written() {
    const severity = this.unset ? null : Number(this.root.elements.severity.value);
    const texts = this.#texts();
    const known = [this.fields.kind, ...this.options.kinds].find((kind) => kind && readable(kind).toLowerCase() === texts.kind.toLowerCase());
    return { ...texts, kind: known ?? texts.kind, severity, region: this.region };
  }

  /** Whether nothing was written or drawn. */
  get untouched() {
    return JSON.stringify(this.#texts()) === JSON.stringify(this.first) && this.region === this.fields.region;
  }

  #texts() {
    return Object.fromEntries(TEXTS.map((name) => [name, this.root.elements[name].value.trim()]));
  }

  #severity() {
    const { severity } = this.root.elements;
    const output = this.root.querySelector("output");
    output.textContent = this.unset ? "?" : severity.value;
    output.className = this.unset ? "chip" : `chip band-${band(Number(severity.value))}`;
  }

  #save() {
    const texts = this.#texts();
    const missing = TEXTS.slice(0, 3).find((name) => !texts[name]);
    const { reason } = this.root.elements;
    if (missing) return this.complain("Please fill in what is wrong, how it shows and why it cannot be.", missing);
    if (this.unset && !this.options.reasons) return this.complain("Please set the severity.", "severity");
    if (this.options.reasons && !reason.value) return this.complain("Please choose what was changed.", "reason");
    const { written } = this;
    this.options.save.action(written, this.#changes(written), this.options.reasons ? reason.value : null);
  }

  /** The fields that differ from what stood there. */
  #changes(written) {
    const changes = {};
    const texts = this.#texts();
    for (const name of TEXTS) if (texts[name] && texts[name] !== this.first[name]) changes[name] = written[name];
    if (written.severity !== null && written.severity !== Math.round(this.fields.severity ?? -1)) changes.severity = written.severity;
    const region = written.region ?? null; // null: there is no place to mark
    if (JSON.stringify(region) !== JSON.stringify(this.fields.region ?? null)) changes.region = region;
    return changes;
  }
}

/** Let a person correct a candidate; `accept` gets the verdict's edit and reason, `close` is called at the end. */
export function editCandidate(stage, item, kinds, { accept, close, note }) {
  return new Editor(stage, {
    title: "Edit, then accept",
    hint: "The original stays in the dataset beside what you write.",
    fields: item,
    kinds,
    reasons: EDIT_REASONS,
    cancel: { label: "Cancel", action: close },
    save: {
      label: "Save and accept",
      action: (_, edit, reason) => {
        if (!Object.keys(edit).length) return note("Nothing was changed.");
        close();
        accept({ edit, reason });
      },
    },
  });
}
