// Client of the API under /api, which runtime/personalization/openapi.json describes.

import { call } from "./shared/http.js";

const id = encodeURIComponent;
const WAKING = 4; // maximum number of attempts while the model is being loaded
const PATIENCE = 20_000; // maximum milliseconds between two attempts; the user gets the error if it is longer

/**
 * Makes pictures. If the endpoint first has to load the model, the request is repeated with the same idempotency
 * key, so that nothing is made twice. `waiting` is called before each repetition.
 */
async function generate(model, body, signal, waiting) {
  const headers = { "idempotency-key": Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("") };
  for (let turn = 1; ; turn += 1) {
    try {
      return await call("POST", `/models/${id(model)}/generations`, { body, signal, headers });
    } catch (error) {
      const pause = Math.max(1000, (error.until ?? 0) - Date.now());
      if (![0, 502, 503, 504].includes(error.status) || turn === WAKING || pause > PATIENCE) throw error;
      waiting();
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (signal.aborted) throw error;
    }
  }
}

export const api = {
  models: (signal) => call("GET", "/models", { signal }),
  model: (model, signal) => call("GET", `/models/${id(model)}`, { signal }),
  create: (body) => call("POST", "/models", { body }),
  start: (model) => call("POST", `/models/${id(model)}/start`),
  remove: (model) => call("DELETE", `/models/${id(model)}`),
  generate,
  generations: (model, before, signal) =>
    call("GET", `/models/${id(model)}/generations${before ? `?before=${id(before)}` : ""}`, { signal }),
  generation: (generation, signal) => call("GET", `/generations/${id(generation)}`, { signal }),
};

/**
 * Calls `ask` repeatedly until `signal` aborts or `ask` resolves to false. `ask` resolves to a text for the current
 * state; the pauses get longer while it stays the same. Does not call it while the page is hidden.
 */
export async function poll(ask, signal, { first = 2500, longest = 15000 } = {}) {
  let pause = first;
  let seen;
  while (!signal.aborted) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
    if (document.hidden && !signal.aborted)
      await new Promise((resolve) => {
        document.addEventListener("visibilitychange", resolve, { once: true });
        signal.addEventListener("abort", resolve, { once: true });
      });
    if (signal.aborted) return;
    let found;
    try {
      found = await ask();
    } catch (error) {
      if (signal.aborted || error.status === 401 || error.status === 404) return;
      pause = error.until ? Math.max(error.until - Date.now(), first) : Math.min(pause * 2, longest);
      continue;
    }
    if (found === false) return;
    pause = found === seen ? Math.min(pause * 1.4, longest) : first;
    seen = found;
  }
}
