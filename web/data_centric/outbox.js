// Answers that the service has not confirmed. They are stored in the browser for the user who gave them, beyond
// reloads and the end of a session.

import { api, persist } from "./api.js";
import { session } from "./shared/auth.js";

let last = null; // key of the user who is signed in, or was last

function key() {
  const now = session();
  if (now) last = `answers:${now.user}`;
  return last;
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(key())) ?? [];
  } catch {
    return [];
  }
}

function write(answers) {
  try {
    if (answers.length) localStorage.setItem(key(), JSON.stringify(answers));
    else localStorage.removeItem(key());
  } catch {
    // Without storage an answer is kept while the page is open
  }
}

const same = (one, other) => one.run === other.run && one.item === other.item;

/** Returns whether there are answers of the user who is signed in, or was last. */
export const unsent = () => read().length > 0;

/** Returns the answers `{ run, item, choice }` of a run, or of all runs. */
export const answers = (run = null) => read().filter((answer) => run === null || answer.run === run);

/** Keeps an answer until `deliver` has sent it. */
export function keep(answer) {
  write([...read().filter((other) => !same(other, answer)), answer]);
}

/** Sends an answer with retries; resolves and throws like `persist`. An answer that the service rejects is removed. */
export async function deliver(answer, signal, waiting) {
  const remove = () => write(read().filter((other) => !same(other, answer)));
  try {
    const told = await persist(() => api.answer(answer.run, answer.item, answer.choice), signal, waiting);
    remove();
    return told;
  } catch (error) {
    if (error.status && error.status !== 401) remove();
    throw error;
  }
}
