// The API under /api, as runtime/personalization/openapi.json describes it.

import { token } from "./auth.js";

export class ApiError extends Error {
  /** `field` names what is wrong with the request, where the API says so; `until`, a Date, when it is worth trying again. */
  constructor(status, code, message, field, until) {
    super(message);
    Object.assign(this, { status, code, field, until });
  }
}

let signedOut = () => {};

/** Names what happens when the session is over. */
export function onSignedOut(listener) {
  signedOut = listener;
}

async function call(method, path, { body, signal, headers = {} } = {}) {
  for (const again of [false, true]) {
    const bearer = await token(again);
    if (!bearer) break;
    let response;
    try {
      response = await fetch(`/api${path}`, {
        method,
        signal,
        headers: { authorization: `Bearer ${bearer}`, ...(body ? { "content-type": "application/json" } : {}), ...headers },
        body: body ? JSON.stringify(body) : undefined,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", "The service cannot be reached. Check the connection and try again.");
    }
    if (response.status === 401 && !again) continue; // a token may end between two clocks
    if (response.status === 401) break;
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const { code, field, message } = answer.error ?? {};
    throw new ApiError(
      response.status,
      code ?? "error",
      message ?? `The service could not do this (${response.status}).`,
      field,
      [429, 503].includes(response.status) ? retryAt(response.headers.get("retry-after")) : undefined,
    );
  }
  signedOut();
  throw new ApiError(401, "signed_out", "Your session has ended. Sign in again.");
}

function retryAt(text) {
  const seconds = Number(text ?? 60);
  return Number.isFinite(seconds) ? new Date(Date.now() + seconds * 1000) : new Date(text);
}

/** What a person is told of an error. */
export function explained(error) {
  const message = error.message.replace(/^./u, (first) => first.toUpperCase()).replace(/[^.!?]$/u, "$&.");
  if (!error.until) return message;
  const seconds = Math.max(1, Math.round((error.until - Date.now()) / 1000));
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }).format(error.until);
  const span = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} minutes`;
  return `${message.replace(/ Try again\.$/u, "")} Try again at ${clock}, in ${span}.`;
}

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
