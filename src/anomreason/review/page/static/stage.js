// The image, with outlines on it: zoomed, moved, and drawn on by mouse, touch and keys.
//
//   const stage = new Stage(place);
//   stage.show(await decoded(item.src), [{ region: item.region }]);

import { makeSvg } from "./dom.js";

const CLOSEST = 12; // times the size at which all of the image is seen
const SMALLEST = 0.01; // of the image: what is drawn smaller is a click
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class Stage {
  /** place: an empty element of any size. */
  constructor(place) {
    this.place = place;
    this.canvas = document.createElement("div");
    this.canvas.className = "canvas";
    this.overlay = makeSvg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.canvas.append(this.overlay);
    place.append(this.canvas);
    this.outlines = [];
    this.pointers = new Map();
    this.zoom = 1;
    this.x = this.y = 0.5; // what of the image is in the middle
    new ResizeObserver(() => this.#layout()).observe(place);
    place.addEventListener("pointerdown", (event) => this.#down(event));
    place.addEventListener("pointermove", (event) => this.#move(event));
    place.addEventListener("pointerleave", () => (this.over = null));
    for (const end of ["pointerup", "pointercancel"]) place.addEventListener(end, (event) => this.#up(event));
    place.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    place.addEventListener("dblclick", (event) => this.drawing || this.#zoomTo(this.zoom > 1 ? 1 : 2, event));
    place.addEventListener("keydown", (event) => this.#draw(event));
  }

  /** Show a decoded image (null: none) with outlines {region, tone}; the whole of it, unless it is there already. */
  show(image, outlines = []) {
    if (image !== this.image) {
      this.image?.remove();
      this.image = image;
      if (image) this.canvas.prepend(image);
      this.zoom = 1;
      this.x = this.y = 0.5;
    }
    this.canvas.hidden = !image;
    this.outline(outlines);
    this.#layout();
  }

  outline(outlines) {
    this.outlines = outlines;
    const drawn = this.drawing?.region ? [{ region: this.drawing.region, tone: "drawn" }] : [];
    const shapes = [...outlines, ...drawn].filter(({ region }) => region);
    this.overlay.replaceChildren(...shapes.map((outline) => this.#shape(outline)));
  }

  /** Let the user draw one box; `changed` gets it each time, in fractions of the image, or null. */
  draw(region, changed) {
    this.drawing = { region, changed };
    this.place.classList.add("drawing");
    this.#drawn(region);
  }

  stopDrawing() {
    this.drawing = null;
    this.place.classList.remove("drawing");
  }

  /** zoom_in, zoom_out, fit, left, right, up, down; whether it is one of these. */
  look(action) {
    const step = 0.15 / this.zoom;
    if (action !== "zoom_in") this.aim = null; // somebody looks elsewhere
    if (action === "zoom_in") this.#closer();
    else if (action === "zoom_out") this.#zoomTo(this.zoom / 1.4, this.over);
    else if (action === "fit") this.#zoomTo(1);
    else if (action === "left") this.x -= step;
    else if (action === "right") this.x += step;
    else if (action === "up") this.y -= step;
    else if (action === "down") this.y += step;
    else return false;
    this.#layout();
    return true;
  }

  /** Zoom in on what is under the mouse; else, from the whole image, on the marked place. */
  #closer() {
    const { region } = this.outlines.at(-1) ?? {};
    if (this.zoom === 1) this.aim = region && [(region.x0 + region.x1) / 2, (region.y0 + region.y1) / 2];
    if (!this.over && this.aim) [this.x, this.y] = this.aim;
    this.#zoomTo(this.zoom * 1.4, this.over);
  }

  #shape({ region, tone = "" }) {
    const points = region.polygon?.map(([x, y]) => `${x},${y}`).join(" ");
    const box = { x: region.x0, y: region.y0, width: region.x1 - region.x0, height: region.y1 - region.y0 };
    const outline = (kind) =>
      points ? makeSvg("polygon", { class: kind, points }) : makeSvg("rect", { class: kind, ...box });
    return makeSvg("g", { class: `box ${tone}` }, outline("casing"), outline("edge"));
  }

  #size() {
    const { clientWidth: width, clientHeight: height } = this.place;
    const { naturalWidth, naturalHeight } = this.image;
    const scale = Math.min(width / naturalWidth, height / naturalHeight, 4) * this.zoom;
    return { width, height, across: naturalWidth * scale, down: naturalHeight * scale };
  }

  #layout() {
    if (!this.image) return;
    const { width, height, across, down } = this.#size();
    const middle = (at, seen, all) => (all <= seen ? 0.5 : clamp(at, seen / all / 2, 1 - seen / all / 2));
    this.x = middle(this.x, width, across);
    this.y = middle(this.y, height, down);
    const { style } = this.canvas;
    style.width = `${across}px`;
    style.height = `${down}px`;
    style.transform = `translate(${width / 2 - this.x * across}px, ${height / 2 - this.y * down}px)`;
    this.place.classList.toggle("zoomed", this.zoom > 1);
  }

  /** Zoom so that what lies under a point of the screen (or in the middle) stays there. */
  #zoomTo(zoom, event) {
    const held = event && this.#at(event);
    this.zoom = clamp(zoom, 1, CLOSEST);
    this.#layout();
    if (!held) return;
    const now = this.#at(event);
    this.x += held.x - now.x;
    this.y += held.y - now.y;
    this.#layout();
  }

  /** Where in the image an event is, in fractions; outside of it they are below 0 or above 1. */
  #at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (clientX - box.left) / box.width, y: (clientY - box.top) / box.height };
  }

  #down(event) {
    if (!this.image || event.button > 0) return;
    this.place.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.drawing && this.pointers.size === 1) this.from = this.#at(event);
  }

  #move(event) {
    if (event.pointerType === "mouse") this.over = event;
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (others.length === 1) {
      this.from = null;
      const apart = (pointer) => Math.hypot(pointer.clientX - others[0].clientX, pointer.clientY - others[0].clientY);
      this.#zoomTo((this.zoom * apart(event)) / Math.max(1, apart(before)), {
        clientX: (event.clientX + others[0].clientX) / 2,
        clientY: (event.clientY + others[0].clientY) / 2,
      });
    } else if (this.drawing) {
      if (this.from) this.#drawn(boxOf(this.from, this.#at(event)));
    } else if (!others.length) {
      this.aim = null;
      const { across, down } = this.#size();
      this.x -= (event.clientX - before.clientX) / across;
      this.y -= (event.clientY - before.clientY) / down;
      this.#layout();
    }
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (this.drawing && this.from) {
      this.from = null;
      this.drawing.changed(this.drawing.region);
    }
  }

  #wheel(event) {
    if (!this.image) return;
    event.preventDefault();
    this.aim = null;
    this.#zoomTo(this.zoom * Math.exp(clamp(-event.deltaY, -120, 120) / 300), event);
  }

  /** The box by keys: the arrows move it, with Shift they move its lower right corner. */
  #draw(event) {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [];
    if (!this.drawing || x === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const { x0, y0, x1, y1 } = this.drawing.region ?? { x0: 0.4, y0: 0.4, x1: 0.6, y1: 0.6 };
    const dx = 0.01 * x, dy = 0.01 * y;
    const region = event.shiftKey
      ? { x0, y0, x1: clamp(x1 + dx, x0 + 0.02, 1), y1: clamp(y1 + dy, y0 + 0.02, 1) }
      : moved({ x0, y0, x1, y1 }, clamp(dx, -x0, 1 - x1), clamp(dy, -y0, 1 - y1));
    this.#drawn(region);
    this.drawing.changed(region);
  }

  #drawn(region) {
    this.drawing.region = region;
    this.outline(this.outlines);
  }
}

const moved = ({ x0, y0, x1, y1 }, dx, dy) => ({ x0: x0 + dx, y0: y0 + dy, x1: x1 + dx, y1: y1 + dy });

/** The box between two points, inside the image; null when it is too small to be meant. */
function boxOf(a, b) {
  const [x0, x1] = [a.x, b.x].map((x) => clamp(x, 0, 1)).sort((one, other) => one - other);
  const [y0, y1] = [a.y, b.y].map((y) => clamp(y, 0, 1)).sort((one, other) => one - other);
  return x1 - x0 < SMALLEST || y1 - y0 < SMALLEST ? null : { x0, y0, x1, y1 };
}
