// Speaks with the server.
//
//   const { items } = await get("/api/next?count=3&have=");

const PATIENCE = 20_000; // milliseconds

/** What the server refused, or that it was not reached (`status` 0). */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
  /** Whether sending the same again may help. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
  get signedOut() {
    return this.status === 401;
  }
}

async function ask(path, options) {
  let answer, body;
  try {
    answer = await fetch(path, { credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE), ...options });
    body = await answer.json();
  } catch (error) {
    throw new Problem(answer && !answer.ok ? answer.status : 0, "the server cannot be reached");
  }
  if (!answer.ok) throw new Problem(answer.status, body.error ?? `the server answered with ${answer.status}`);
  return body;
}

export const get = (path) => ask(path, {});

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    keepalive: true, // what is under way when the tab is closed still arrives
    headers: { "Content-Type": "application/json", "X-Anomreason": "1" },
    body: JSON.stringify(body),
  });

/** A key that nobody else makes. Pages that are not on localhost or HTTPS have no randomUUID. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
