// What the page says of images, results and failures.
//
//   summary(detection)    // "3 anomalies"

import { count, plain } from "./dom.js";
import { stateOf } from "./entries.js";

export const DIRECTION = "0 = completely implausible, 100 = fully realistic";

/** Kind of a failure: what happened, and what somebody on this page can do. */
export const FAILURES = {
  unreadable_image: ["The file cannot be opened as an image", "Save it again as PNG or JPEG in an image program, and drop that file."],
  refused: ["The model refused to answer", "It does so for some contents, and would again. Try another image, or ask the person who runs this service for another model."],
  truncated: ["A reply of the model was cut off", "Try again. If it fails again, tell the person who runs this service: the model needs room for longer replies."],
  unparsable: ["The model did not answer in the form that was asked for", "Try again. If many images fail like this, tell the person who runs this service: the model does not follow the form."],
  endpoint: ["The model's server gave no usable answer", "Try again in a few minutes. If it goes on, tell the person who runs this service."],
  budget: ["The limit on cost was reached before this image was done", "Ask the person who runs this service to raise the limit, then try again."],
};

/** `internal`, and whatever a later version of the service may name. */
export const failure = (kind) => FAILURES[kind] ?? ["The service made a mistake", "Try again. If it fails again, tell the person who runs this service: its log says what happened."];

const counted = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

/** How people call the model of a detector: "local:/models/qwen@5bd1e2 single" is "qwen". */
export function modelOf(detector) {
  const model = plain(detector).replace(/ \S+$/, ""); // without its schedule
  return model.startsWith("local:") ? model.replace(/@\w+$/, "").replace(/^local:(.*\/)?(?=.)/, "") : model;
}

/** How far the questions to the model are. */
export function answered({ done, of }) {
  if (of === 1) return done ? "The model has answered." : "The model has not answered yet.";
  return `${done} of about ${of} questions to the model are answered.`;
}

/** Why nobody looked for anomalies; null where somebody did. */
export function unsearched(detection) {
  if (detection.out_of_domain) return ["The detector does not know such images", "It says that it cannot judge images of this type. That is not the same as nothing found."];
  if (detection.source_only) return ["Not searched for anomalies", "Only whether the image is AI-generated was asked."];
  if (typeof detection.description === "string") return ["Described, not searched for anomalies", "The detector took it for a photograph. That is not the same as nothing found."];
  return null;
}

/** A result in a few words. */
export function summary(detection) {
  const found = detection.anomalies?.length ?? 0;
  if (found) return counted(found, "anomaly", "anomalies");
  return unsearched(detection)?.[0] ?? "No anomalies found";
}

/** Whether the image is AI-generated, as the detector judged it; null when that was not asked. */
export function sourceWords(source) {
  if (!source) return null;
  const words = { generated: "judged AI-generated", photograph: "judged not AI-generated", unsure: "unsure whether AI-generated" };
  const told = words[source.answer] ?? "whether AI-generated is not known";
  return typeof source.p_generated === "number" ? `${told} · AI probability ${Math.round(100 * source.p_generated)} %` : told;
}

/** How an entry stands, in a few words for the list. */
export function standing(entry) {
  const { job, sent, trouble } = entry;
  switch (stateOf(entry)) {
    case "waiting":
      if (typeof sent === "number") return `Uploading ${Math.round(100 * sent)} %`;
      return trouble?.status ? "Waits for the service" : "Waits to be sent";
    case "queued":
      return `In the queue: ${ordinal((job?.position ?? 0) + 1)}`;
    case "running":
      return job.progress?.of > 1 ? `Looking: ${job.progress.done} of ${job.progress.of}` : "Looking";
    case "done":
      return summary(job.detection);
    case "failed":
      return "Failed";
    default:
      return "Not taken";
  }
}

export function ordinal(number) {
  const tail = number % 100 > 10 && number % 100 < 14 ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[number % 10] ?? "th");
  return `${count(number)}${tail}`;
}

export function bytes(size) {
  if (size < 1e6) return `${Math.max(1, Math.round(size / 1e3))} kB`;
  return `${(size / 1e6).toFixed(size < 1e7 ? 1 : 0)} MB`;
}

export function duration(seconds) {
  if (seconds < 0.1) return "under 0.1 s";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** Dollars; cents have as many digits as it takes. */
export function money(cost) {
  if (cost === null || cost === undefined) return "price not known";
  return cost >= 0.01 || cost === 0 ? `$${cost.toFixed(2)}` : `$${cost.toPrecision(2)}`;
}
