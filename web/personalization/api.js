// The API under /api, as runtime/personalization/openapi.json describes it.

import { call } from "./shared/http.js";

const id = encodeURIComponent;
const WAKING = 4; // how often a model that is still being loaded is asked again
const PATIENCE = 20_000; // and no later than after so many milliseconds each: a person is told of longer ones

/**
 * Makes pictures. A model that is not in the endpoint's memory takes a moment: the request is repeated then,
 * under one key, so that nothing is made twice. `waiting` hears of it.
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
 * Asks again and again until `signal` aborts or `ask` resolves to false. Waits longer while nothing changes
 * (`ask` resolves to a text that says what it saw), and not at all while nobody looks.
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
