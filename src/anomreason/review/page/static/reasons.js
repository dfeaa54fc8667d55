// The closed lists of reasons, and the words for choices. The short names are what the dataset keeps.

import { make, part } from "./dom.js";

/** By the number of the key. */
export const REJECT_REASONS = [
  ["not visible", "The image does not show it"],
  ["plausible", "It is there, but nothing is wrong with it"],
  ["wrong object", "It is another object"],
  ["wrong place", "The marked place is wrong"],
  ["wrong reasoning", "The reasons do not hold"],
  ["wrong severity", "The severity is far off"],
  ["duplicate", "Another candidate says the same"],
  ["intended", "The style or the prompt wants it so"],
  ["unclear", "The text cannot be understood"],
];

export const EDIT_REASONS = [
  ["wording", "The wording"],
  ["object", "The object"],
  ["place", "The marked place"],
  ["reasoning", "The reasons"],
  ["severity", "The severity"],
  ["kind", "The kind"],
  ["several", "Several of these"],
];

export const DROP_REASONS = [
  ["not an image", "A diagram, a screenshot or text"],
  ["several images", "Several images in one"],
  ["watermark", "A watermark or a frame"],
  ["broken", "Broken, empty or unreadable"],
  ["duplicate", "Nearly the same as another"],
  ["unfit", "Content that should not be shown"],
  ["off topic", "It does not belong in this dataset"],
  ["a photograph", "It is a photograph"],
  ["other", "Another reason"],
];

export const SAID = { accept: "Accepted", reject: "Rejected", unsure: "Unsure", flag: "Flagged for the owner" };

/** Put a button for each reason of a list into the fold for them, and beside its title the keys that do the same. */
export function offerReasons(root, reasons, keys) {
  const buttons = reasons.map(([, text], n) => {
    const button = make("button", { type: "button" }, text);
    button.dataset.action = `reason_${n + 1}`;
    return button;
  });
  part(root, "reasons").append(...buttons);
  const [first, last, reject] = ["reason_1", `reason_${reasons.length}`, "reject"].map((action) => keys.labels(action)[0]);
  if (first && last && reject) root.querySelector(".reasons summary").append(` (${first} to ${last} instead of ${reject})`);
}

/** The reason that an action names, or undefined. */
export function reasonOf(action, reasons) {
  const number = /^reason_(\d)$/.exec(action);
  return number ? reasons[number[1] - 1]?.[0] : undefined;
}
