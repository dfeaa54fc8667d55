// An image with the boxes of its anomalies, each with a numbered badge beside it.
//
//   const stage = new Stage(place, blob, [{ number: 1, name: "Six fingers", severity: 5, region }]);
//   stage.addEventListener("choose", ({ detail: number }) => ...);

import { make, makeSvg, plain } from "./dom.js";
import { draw } from "./previews.js";
import { band } from "./severity.js";

const BADGE = 26, GAP = 3; // pixels
const ZOOMS = [1, 1.5, 2, 3, 4, 6];

export class Stage extends EventTarget {
  /** blob: of the image; null: it cannot be shown. Fires `choose` with a number, `point` with a number or null. */
  constructor(place, blob, marked, alt) {
    super();
    this.marked = marked.filter(({ region }) => region);
    this.canvas = make("canvas", { role: "img", ariaLabel: alt });
    this.overlay = makeSvg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.badges = make("div", { className: "badges" });
    this.inner = make("div", { className: "inner" }, this.canvas, this.overlay, this.badges);
    this.window = make("div", { className: "window" }, this.inner);
    this.zoom = 0; // index of ZOOMS
    place.replaceChildren(this.window);
    this.#mark();
    this.ready = this.#show(place, blob);
  }

  async #show(place, blob) {
    if (!blob || !(await draw(this.canvas, blob))) {
      place.replaceChildren(make("p", { className: "missing" }, "This browser has no copy of the image that it can show. The result is here all the same."));
      return;
    }
    place.append(this.#tools());
    new ResizeObserver(() => this.#layout()).observe(this.window);
    this.#layout();
  }

  #tools() {
    const button = (text, label, action) => {
      const made = make("button", { type: "button", ariaLabel: label }, text);
      made.addEventListener("click", action);
      return made;
    };
    const zoomTo = (index) => {
      this.zoom = Math.min(Math.max(index, 0), ZOOMS.length - 1);
      this.#layout();
    };
    const tools = make("div", { className: "tools", role: "group", ariaLabel: "View" });
    tools.append(button("−", "Zoom out", () => zoomTo(this.zoom - 1)), button("Fit", "Fit all of the image", () => zoomTo(0)), button("+", "Zoom in", () => zoomTo(this.zoom + 1)));
    if (this.marked.length) {
      const boxes = make("button", { type: "button", ariaPressed: "true" }, "Boxes");
      boxes.addEventListener("click", () => {
        const hidden = this.inner.classList.toggle("bare");
        boxes.setAttribute("aria-pressed", !hidden);
      });
      tools.append(boxes);
    }
    return tools;
  }

  /** Boxes, the largest first, so that none hides a smaller one; badges in the order of their numbers. */
  #mark() {
    const area = ({ region: { x0, y0, x1, y1 } }) => (x1 - x0) * (y1 - y0);
    const link = (element, number) => {
      element.dataset.link = number;
      element.addEventListener("click", () => this.dispatchEvent(new CustomEvent("choose", { detail: number })));
      for (const on of ["pointerenter", "focus"]) element.addEventListener(on, () => this.#point(number));
      for (const off of ["pointerleave", "blur"]) element.addEventListener(off, () => this.#point(null));
      return element;
    };
    for (const each of [...this.marked].sort((a, b) => area(b) - area(a))) {
      const shape = makeSvg("g", { class: `box band-${band(each.severity)}` }, outline(each.region, "casing"), outline(each.region, "edge"));
      this.overlay.append(link(shape, each.number));
    }
    for (const { number, name, severity } of this.marked) {
      const label = `Anomaly ${number}: ${plain(name)}, severity ${Math.round(severity)}. Show its description`;
      this.badges.append(link(make("button", { type: "button", className: `badge band-${band(severity)}`, ariaLabel: label }, `${number}`), number));
    }
  }

  #point(number) {
    this.dispatchEvent(new CustomEvent("point", { detail: number }));
  }

  /** Show which anomaly is meant; null: none. */
  light(number) {
    this.inner.classList.toggle("pointed", number !== null);
    for (const part of this.inner.querySelectorAll("[data-link]")) part.classList.toggle("lit", Number(part.dataset.link) === number);
  }

  /** Bring the box of an anomaly into view. */
  reveal(number) {
    const badge = this.badges.querySelector(`[data-link="${number}"]`);
    badge?.scrollIntoView({ block: "nearest", inline: "nearest" });
    badge?.focus({ preventScroll: true });
  }

  #layout() {
    const { width: across, height: down } = this.canvas;
    const room = this.window.clientWidth, high = Math.max(240, innerHeight * (innerWidth < 928 ? 0.55 : 0.78)); // the result is below it on narrow screens
    if (!room) return;
    const fitted = Math.min(room, (high * across) / down, Math.max(2 * across, 320));
    const middle = this.window.scrollLeft + room / 2, before = this.inner.clientWidth || fitted;
    const width = fitted * ZOOMS[this.zoom];
    this.inner.style.width = `${width}px`;
    this.inner.style.aspectRatio = `${across} / ${down}`;
    this.window.style.maxHeight = `${Math.max((fitted * down) / across, 60)}px`;
    this.window.scrollLeft = (middle * width) / before - room / 2;
    this.#place(width, (width * down) / across);
  }

  /** Put each badge beside its box, where it covers neither the box's inside nor another badge, if there is such a place. */
  #place(width, height) {
    const placed = [];
    for (const [index, { region }] of this.marked.entries()) {
      const [x0, x1, y0, y1] = [region.x0 * width, region.x1 * width, region.y0 * height, region.y1 * height];
      const spots = [
        [x0, y0 - BADGE - GAP], [x0 - BADGE - GAP, y0], [x1 + GAP, y0], [x1 - BADGE, y0 - BADGE - GAP],
        [x0, y1 + GAP], [x1 - BADGE, y1 + GAP], [x0 - BADGE - GAP, y1 - BADGE], [x1 + GAP, y1 - BADGE],
        [x0 + GAP, y0 + GAP], [x1 - BADGE - GAP, y0 + GAP], [x0 + GAP, y1 - BADGE - GAP], [x1 - BADGE - GAP, y1 - BADGE - GAP],
      ]; // outside of the box first
      const inside = ([x, y]) => x >= 0 && y >= 0 && x + BADGE <= width && y + BADGE <= height;
      const free = ([x, y]) => placed.every(([a, b]) => Math.abs(a - x) >= BADGE || Math.abs(b - y) >= BADGE);
      const spot = spots.find((one) => inside(one) && free(one)) ?? spots.find(inside) ?? [x0, y0];
      placed.push(spot);
      const { style } = this.badges.children[index];
      [style.left, style.top] = spot.map((value) => `${value}px`);
    }
  }
}

function outline({ x0, y0, x1, y1, polygon }, kind) {
  if (!polygon) return makeSvg("rect", { class: kind, x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
  return makeSvg("polygon", { class: kind, points: polygon.map(([x, y]) => `${x},${y}`).join(" ") });
}
