// The frame of a page: it shows the view of the address, and the signed-in user.

import * as auth from "./auth.js";
import { h, notice } from "./dom.js";
import { onSignedOut } from "./http.js";
import { signInView } from "./signin.js";

const main = document.getElementById("main");
const account = document.getElementById("account");

let page;
let config;
let shown = null; // AbortController of the current view, for its polls and requests
let message = null;

/** Shows the view of an address, with the message `words` if given. */
export function go(hash, words = null) {
  message = words && notice("note", words);
  if (location.hash === hash) show();
  else location.hash = hash;
}

function show() {
  const first = shown === null;
  shown?.abort();
  shown = new AbortController();
  const [, ...path] = location.hash.split("/").map(decoded);
  const content = auth.session()
    ? page.view({ path, config, signal: shown.signal })
    : signInView({ lead: page.lead, done: () => show() });
  main.replaceChildren(...(message ? [message] : []), content);
  message = null;
  showAccount();
  const heading = main.querySelector("h1");
  document.title = heading ? `${heading.textContent} · ${page.title}` : page.title;
  if (!first) {
    // Screen readers and the keyboard continue at the new view
    window.scrollTo(0, 0);
    if (heading && !main.contains(document.activeElement)) {
      heading.tabIndex = -1;
      heading.focus();
    }
  }
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function showAccount() {
  const session = auth.session();
  if (!session) {
    account.replaceChildren();
    return;
  }
  const leave = async () => {
    const left = auth.signOut();
    go("#/", "You are signed out.");
    await left;
  };
  account.replaceChildren(
    h("span", { class: "who", title: session.email }, session.email),
    h("button", { type: "button", class: "quiet small", onclick: leave }, "Sign out"),
  );
}

/**
 * Starts the page. `lead` is the sentence of the sign-in form. `view({ path, config, signal })` returns the view of
 * an address; `path` has the parts after `#/`, and `signal` is aborted when another view is shown. `ended()` returns
 * a sentence that is added to the message that the session has ended.
 */
export async function start({ title, lead, view, ended = () => "" }) {
  page = { title, lead, view };
  try {
    config = await (await fetch("config.json", { cache: "no-cache" })).json();
  } catch {
    main.replaceChildren(notice("error", "The page could not read its settings. Load it again in a minute."));
    return;
  }
  auth.setUp(config);
  onSignedOut(() => {
    message = notice("note", ["Your session has ended. Sign in again to go on.", ended()].filter(Boolean).join(" "));
    show();
  });
  window.addEventListener("hashchange", show);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address names the view
    main.focus();
  });
  show();
}
