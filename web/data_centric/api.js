// The API under /api.

import { call } from "./shared/http.js";

const id = encodeURIComponent;
const PATIENCE = 20_000; // milliseconds after which a request counts as lost
const LONGEST = 30_000; // maximum milliseconds between two attempts
const PASSING = [0, 429, 500, 502, 503, 504]; // statuses of transient errors

const timed = (signal) => AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]);

export const api = {
  /** Resolves to `{ runs: [{ name, kind, instructions, classes, done, items, complete }] }`. */
  runs: (signal) => call("GET", "/runs", { signal: timed(signal) }),
  /** Resolves to `{ item, until, source, review }`, the same task until its lease ends, or to null: none is available. */
  task: (run, signal) => call("POST", `/runs/${id(run)}/task`, { signal: timed(signal) }),
  /** Resolves to `{ result, done, items, complete }`. The first answer to an item counts: it may be sent again. */
  answer: (run, item, choice) =>
    call("POST", `/runs/${id(run)}/answers`, { body: { item, choice }, signal: AbortSignal.timeout(PATIENCE) }),
};

/**
 * Repeats a request until the service answers or rejects it, or until `signal` is aborted. `waiting(error, now)`
 * is called before each pause; `now()` ends the pause.
 */
export async function persist(request, signal, waiting) {
  for (let pause = 1000; ; pause = Math.min(2 * pause, LONGEST)) {
    try {
      return await request();
    } catch (error) {
      const late = error.name === "AbortError"; // by PATIENCE, where `signal` is not aborted
      if (signal.aborted || !(late || PASSING.includes(error.status))) throw error;
      const most = Math.max(pause, (error.until ?? 0) - Date.now());
      await wait(most * (0.75 + Math.random() / 4), signal, (now) => waiting(error, now));
      signal.throwIfAborted();
    }
  }
}

/** Waits for some milliseconds, or until the browser is online again, `signal` is aborted, or `now()` is called. */
export function wait(milliseconds, signal, started = () => {}) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const end = () => { clearTimeout(timer); over.abort(); resolve(); };
    const timer = setTimeout(end, milliseconds);
    window.addEventListener("online", end, { signal: over.signal });
    signal.addEventListener("abort", end, { signal: over.signal });
    started(end);
  });
}
