// Speaks with the service.
//
//   const job = await upload(file, "a.png", (share) => show(share));
//   const again = await get(`/v1/jobs/${job.id}`);

const PATIENCE = 20_000; // milliseconds for an answer without a file

/** What the service refused, or that it was not reached (`status` 0). */
export class Problem extends Error {
  /** wait: seconds after which the service wants to be asked again; null when it did not say. */
  constructor(status, message, wait = null) {
    super(message);
    Object.assign(this, { status, wait });
  }
  /** Whether sending the same again may help. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
  get signedOut() {
    return this.status === 401;
  }
  get broke() {
    return this.status === 402;
  }
}

const unreached = () => new Problem(0, "the service cannot be reached");

/** Read an answer of the service. Throws a Problem when it is a refusal, or not from the service at all. */
function read(status, text, retryAfter) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy that stands before the service answers for it, e.g. with 413 or 502.
    if (status >= 200 && status < 300) throw unreached();
    throw new Problem(status, status === 413 ? "the file is too large for the service" : `the answer was ${status}`, seconds(retryAfter));
  }
  if (status < 200 || status >= 300) throw new Problem(status, String(body?.error ?? `the answer was ${status}`), seconds(retryAfter));
  return body;
}

function seconds(retryAfter) {
  const value = Number.parseFloat(retryAfter ?? "");
  return Number.isFinite(value) && value >= 0 ? Math.min(value, 3600) : null;
}

export async function get(path) {
  let answer, text;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    text = await answer.text();
  } catch {
    throw unreached();
  }
  return read(answer.status, text, answer.headers.get("Retry-After"));
}

/** Whether a token is known here. */
export async function known(token) {
  const answer = await fetch("/v1/me", { headers: { Authorization: `Bearer ${token}` }, credentials: "omit", signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
  if (!answer) throw unreached();
  return answer.ok;
}

/** Forget this browser's login. */
export async function leave() {
  const answer = await fetch("/v1/leave", { method: "POST", headers: { "X-Requested-With": "anomreason" }, credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok && answer?.status !== 401) throw answer ? new Problem(answer.status, `the answer was ${answer.status}`) : unreached();
}

/** The image of a job as the service has it; null when it has none any more. */
export async function jobImage(id) {
  try {
    const answer = await fetch(`/v1/jobs/${encodeURIComponent(id)}/image`, { credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE) });
    return answer.ok ? await answer.blob() : null;
  } catch {
    return null;
  }
}

/** Send an image; gives its job. progress: called with the share of it that is sent, 0..1. */
export function upload(file, name, progress) {
  // Not fetch, which does not tell how much of a body is sent.
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append("image", file, name);
  return new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", ({ loaded, total }) => total && progress(loaded / total));
    request.addEventListener("load", () => {
      try {
        resolve(read(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      } catch (problem) {
        reject(problem);
      }
    });
    for (const name of ["error", "abort", "timeout"]) request.addEventListener(name, () => reject(unreached()));
    request.open("POST", "/v1/detect?wait=0");
    request.setRequestHeader("X-Requested-With", "anomreason");
    request.send(form);
  });
}
