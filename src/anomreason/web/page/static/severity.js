// Severity with its direction: 0 is completely implausible, 100 is fully realistic.
//
//   place.replaceChildren(severity(12));

import { make, makeSvg } from "./dom.js";

const BANDS = ["implausible", "hardly plausible", "doubtful", "mostly plausible", "nearly realistic"];

/** Which of five bands a severity is in, 0..4. */
export const band = (value) => Math.min(Math.floor(value / 20), 4);

/** A scale with a dot at the value and words at both ends. */
export function severity(value) {
  if (value === null || value === undefined) return make("p", { className: "hint" }, "No severity was given.");
  const rounded = Math.round(value);
  return make(
    "div",
    { className: `scale band-${band(value)}` },
    make("p", { className: "value" }, "Severity ", make("b", {}, `${rounded}`), ` of 100: ${BANDS[band(value)]}`),
    makeSvg(
      "svg",
      { "aria-hidden": "true" },
      makeSvg("rect", { class: "track", x: "0", y: "6", width: "100%", height: "4", rx: "2" }),
      makeSvg("circle", { class: "dot", cx: `${value}%`, cy: "8", r: "7" }),
    ),
    make("p", { className: "ends" }, make("span", {}, "0 completely implausible"), make("span", {}, "100 fully realistic")),
  );
}

/** A small badge for lists. */
export function badge(value) {
  if (value === null || value === undefined) return "";
  const chip = make("span", { className: `chip band-${band(value)}` }, `${Math.round(value)}`);
  chip.title = "Severity: 0 = completely implausible, 100 = fully realistic";
  return chip;
}
