// The images of this browser, the latest first.
//
//   const list = new List(place, { remove: (entry) => ... });
//   list.show(entries.all, entries.find(location.hash.slice(1)));

import { make, plain } from "./dom.js";
import { stateOf } from "./entries.js";
import { draw } from "./previews.js";
import { band } from "./severity.js";
import { standing } from "./words.js";

export class List {
  constructor(place, { remove }) {
    Object.assign(this, { place, remove, lines: new Map() }); // by key of the entry: its line
  }

  /** Show all entries; the one on the screen is marked. */
  show(entries, current) {
    const lines = entries.map((entry) => this.#line(entry));
    this.lines = new Map(entries.map(({ key }, index) => [key, lines[index]]));
    if (lines.some((line, index) => this.place.children[index] !== line) || this.place.children.length !== lines.length) {
      this.place.replaceChildren(...lines);
    }
    for (const entry of entries) this.refresh(entry);
    for (const [key, line] of this.lines) {
      if (key === current?.key) line.firstChild.setAttribute("aria-current", "true");
      else line.firstChild.removeAttribute("aria-current");
    }
  }

  /** Bring the line of one entry up to date. */
  refresh(entry) {
    const line = this.lines.get(entry.key);
    if (!line) return;
    const link = line.querySelector("a");
    link.href = `#${entry.id ?? entry.key}`;
    const worst = Math.min(...(entry.job?.detection?.anomalies ?? []).map(({ severity }) => severity));
    const state = stateOf(entry);
    const chip = line.querySelector(".chip");
    const words = standing(entry);
    if (chip.textContent !== words) chip.textContent = words;
    chip.className = `chip ${Number.isFinite(worst) ? `band-${band(worst)}` : state === "failed" || state === "refused" ? "failed" : ""}`;
    const canvas = line.querySelector("canvas");
    if (entry.thumb && canvas.drawn !== entry.thumb) {
      canvas.drawn = entry.thumb;
      draw(canvas, entry.thumb).then((worked) => canvas.classList.toggle("drawn", worked));
    }
  }

  #line(entry) {
    const known = this.lines.get(entry.key);
    if (known) return known;
    const name = plain(entry.name);
    const kind = /\.(\w{1,5})$/.exec(entry.name)?.[1] ?? ""; // where there is nothing to see
    const canvas = make("canvas", { width: 1, height: 1, ariaHidden: "true" });
    const face = make("span", { className: "face" }, canvas, make("span", { ariaHidden: "true" }, kind.toUpperCase()));
    const link = make("a", {}, face, make("span", { className: "file", dir: "auto" }, name), make("span", { className: "chip" }));
    const button = make("button", { type: "button", className: "remove", ariaLabel: `Remove ${name} from the list`, title: "Remove it from the list" }, "×");
    button.addEventListener("click", () => this.remove(entry));
    return make("li", {}, link, button);
  }
}
