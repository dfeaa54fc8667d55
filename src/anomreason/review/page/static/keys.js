// From key presses to actions: one character stands for what a key writes ("+"), a longer name for where it
// is ("KeyA"), so that the keys lie the same under every layout. What is shown is the user's own label of the key.
//
//   const keys = await Keys.of(me.keys);
//   keys.action(event);   // "accept"

const NAMES = { Space: "Space", Backspace: "⌫", Enter: "↵", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

const REASONS = Array.from({ length: 9 }, (_, n) => `reason_${n + 1}`);

/** For the help: actions, and what they do. */
export const ACTIONS = [
  [["accept"], "accept"],
  [["reject"], "reject"],
  [["unsure"], "unsure"],
  [["undo"], "undo, as often as you like"],
  [["edit"], "edit, then accept"],
  [["flag"], "flag for the owner; it still needs a verdict"],
  [REASONS, "reject and say why, with one key"],
  [["previous", "next"], "move in a whole image or a group"],
  [["apart"], "take one out of a group, or put it back"],
  [["accept_rest"], "accept the rest of a whole image"],
  [["left", "right", "up", "down"], "look around"],
  [["zoom_in", "zoom_out", "fit"], "closer, farther, all of it"],
  [["outline"], "hide or show the outline"],
  [["help"], "this help"],
];

export class Keys {
  /** table: the keys of each action. */
  static async of(table) {
    return new Keys(table, await navigator.keyboard?.getLayoutMap?.().catch(() => null));
  }

  constructor(table, layout) {
    this.table = table;
    this.layout = layout;
    this.byCode = new Map();
    this.byCharacter = new Map();
    for (const [action, keys] of Object.entries(table))
      for (const key of keys) (key.length === 1 ? this.byCharacter : this.byCode).set(key, action);
  }

  /** The action of a keydown, or undefined. A key that is held down does not judge again and again. */
  action(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return undefined;
    if (event.target.closest?.("input, textarea, select, dialog")) return undefined;
    if (event.target.closest?.("button, summary") && /^(Space|Enter)$/.test(event.code)) return undefined;
    if (event.target.closest?.("a") && event.code === "Enter") return undefined;
    const action = (event.shiftKey ? undefined : this.byCode.get(event.code)) ?? this.byCharacter.get(event.key);
    return event.repeat && !/^(left|right|up|down|zoom)/.test(action ?? "") ? undefined : action;
  }

  /** What is printed on the keys of an action. */
  labels(action) {
    const labels = (this.table[action] ?? []).filter((key) => !key.startsWith("Numpad")).map((key) => this.#label(key));
    return [...new Set(labels)];
  }

  #label(key) {
    if (key.length === 1 || NAMES[key]) return NAMES[key] ?? key;
    return (this.layout?.get(key) ?? key.replace(/^(Key|Digit)/, "")).toUpperCase();
  }

  /** Show and announce the keys on all buttons in `root` that have an action. */
  mark(root) {
    for (const button of root.querySelectorAll("[data-action]")) {
      const labels = this.labels(button.dataset.action);
      if (!labels.length) continue;
      button.setAttribute("aria-keyshortcuts", this.table[button.dataset.action].map((key) => this.#shortcut(key)).join(" "));
      if (button.closest(".tools")) {
        button.title = labels.join(" or ");
      } else {
        const cap = document.createElement("kbd");
        cap.textContent = labels[0];
        cap.setAttribute("aria-hidden", "true");
        button.append(" ", cap);
      }
    }
  }

  #shortcut(key) {
    return key === "+" ? "Plus" : key.replace(/^(Key|Digit|Numpad(?=\d))/, "");
  }
}
