// The page: which view the address names, and who is signed in.

import { onSignedOut } from "./api.js";
import * as auth from "./auth.js";
import { createView } from "./create.js";
import { h, notice } from "./dom.js";
import { modelView } from "./model.js";
import { modelsView } from "./models.js";
import { signInView } from "./signin.js";

const main = document.getElementById("main");
const account = document.getElementById("account");

let limits;
let shown = null; // the AbortController of the view that is shown: its polls and requests end with it
let message = null;

/** Goes to a view, and says something there. */
export function go(hash, words = null) {
  message = words && notice("note", words);
  if (location.hash === hash) show();
  else location.hash = hash;
}

function view(signal) {
  if (!auth.session()) return signInView({ done: () => show() });
  const [, place, id] = location.hash.split("/");
  if (place === "new") return createView({ limits, signal, go });
  if (place === "models" && id) return modelView({ model: decodeURIComponent(id), limits, signal, go });
  return modelsView({ limits, signal });
}

function show() {
  const first = shown === null;
  shown?.abort();
  shown = new AbortController();
  const content = view(shown.signal);
  main.replaceChildren(...(message ? [message] : []), content);
  message = null;
  showAccount();
  const heading = main.querySelector("h1");
  document.title = heading ? `${heading.textContent} · Likeness` : "Likeness";
  if (!first) {
    // Whoever hears the page, or uses its keys, is taken to what is new
    window.scrollTo(0, 0);
    if (heading && !main.contains(document.activeElement)) {
      heading.tabIndex = -1;
      heading.focus();
    }
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

async function start() {
  let config;
  try {
    config = await (await fetch("config.json", { cache: "no-cache" })).json();
  } catch {
    main.replaceChildren(notice("error", "The page could not read its settings. Load it again in a minute."));
    return;
  }
  auth.setUp(config);
  limits = config.limits;
  onSignedOut(() => {
    message = notice("note", "Your session has ended. Sign in again to go on.");
    show();
  });
  window.addEventListener("hashchange", show);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address names the view
    main.focus();
  });
  show();
}

start();
