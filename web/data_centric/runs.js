import { api, persist } from "./api.js";
import * as outbox from "./outbox.js";
import { progress } from "./progress.js";
import { retrying } from "./retrying.js";
import { h, notice } from "./shared/dom.js";
import { explained } from "./shared/http.js";

const KINDS = { label: "Labels", review: "Review" };

/** The open runs. */
export function runsView({ signal }) {
  const problem = retrying();
  const body = h("div", { "aria-busy": "true" }, h("p", { class: "hint" }, "Loading…"));

  const load = async () => {
    for (const answer of outbox.answers())
      await outbox.deliver(answer, signal, problem.show).catch((error) => {
        if (signal.aborted) throw error; // otherwise the answer was rejected; the list shows the progress
      });
    const { runs } = await persist(() => api.runs(signal), signal, problem.show);
    problem.hide();
    body.replaceChildren(runs.length ? h("ul", { class: "runs" }, runs.map(card)) : empty());
  };

  load()
    .catch((error) => signal.aborted || body.replaceChildren(notice("error", explained(error))))
    .finally(() => body.removeAttribute("aria-busy"));

  return h("div", {}, h("div", { class: "heading" }, h("h1", {}, "Open runs")), problem.element, body);
}

function card(run) {
  const bar = progress(run.name);
  bar.show(run);
  return h("li", { class: "card run" },
    h("div", { class: "top" },
      h("h2", {}, h("a", { href: `#/runs/${encodeURIComponent(run.name)}` }, run.name)),
      h("span", { class: `pill ${run.kind}` }, KINDS[run.kind])),
    h("p", { class: "first", dir: "auto" }, run.instructions.split("\n")[0]),
    bar.element);
}

function empty() {
  return h("section", { class: "card empty" },
    h("h2", {}, "No open runs"),
    h("p", {}, "There is nothing to label at the moment. Runs appear here when they are opened."),
    h("button", { type: "button", onclick: () => location.reload() }, "Look again"));
}
