// Requests to the API under /api, with the token of the signed-in user.

import { token } from "./auth.js";

export class ApiError extends Error {
  /**
   * `field`: the invalid field of the request, if the API names one. `until`: a Date, the time for a retry, if there
   * is one. `status` is 0 if there was no answer.
   */
  constructor(status, code, message, field, until) {
    super(message);
    Object.assign(this, { status, code, field, until });
  }
}

let signedOut = () => {};
let ahead = 0; // milliseconds by which the service's clock is ahead of this machine's

/** Sets the listener for the end of the session. */
export function onSignedOut(listener) {
  signedOut = listener;
}

/** Returns the service's time in milliseconds since 1970, as of its last answer. */
export const serviceTime = () => Date.now() + ahead;

/** Resolves to the answer's JSON, or to null if it has no content. Throws `ApiError`, and `AbortError` if `signal` is aborted. */
export async function call(method, path, { body, signal, headers = {} } = {}) {
  for (const again of [false, true]) {
    const bearer = await token(again).catch((error) => { throw new ApiError(0, "unreachable", error.message); });
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
      throw unreachable(error);
    }
    ahead = (Date.parse(response.headers.get("date")) || Date.now()) - Date.now();
    if (response.status === 401 && !again) continue; // clocks differ, so a token may have expired for the service only
    if (response.status === 401) break;
    if (response.status === 204) return null;
    const answer = await response.json().catch((error) => {
      if (response.ok) throw unreachable(error); // the connection broke in the middle of the answer
      return {};
    });
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

function unreachable(error) {
  if (error.name === "AbortError") return error;
  return new ApiError(0, "unreachable", "The service cannot be reached. Check the connection and try again.");
}

function retryAt(text) {
  const seconds = Number(text ?? 60);
  return Number.isFinite(seconds) ? new Date(Date.now() + seconds * 1000) : new Date(text);
}

/** Returns the text of an error for the user. */
export function explained(error) {
  const message = error.message.replace(/^./u, (first) => first.toUpperCase()).replace(/[^.!?]$/u, "$&.");
  if (!error.until) return message;
  const seconds = Math.max(1, Math.round((error.until - Date.now()) / 1000));
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }).format(error.until);
  const span = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} minutes`;
  return `${message.replace(/ Try again\.$/u, "")} Try again at ${clock}, in ${span}.`;
}
