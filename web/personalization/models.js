import { api, poll } from "./api.js";
import { announce, h, notice } from "./shared/dom.js";
import { explained } from "./shared/http.js";
import { bar, fingerprint, moves, pill, sentence, word } from "./status.js";

/** Returns the list of the user's models. It is updated while the status of one of them can change. */
export function modelsView({ limits, signal }) {
  const list = h("ul", { class: "models" });
  const body = h("div", { "aria-busy": "true" }, h("p", { class: "hint" }, "Loading…"));
  const create = h("a", { class: "button", href: "#/new" }, "New model");
  const cards = new Map();
  const spoken = new Map();
  let seen = "";

  const details = new Map();
  const load = async () => {
    const { models: summaries } = await api.models(signal);
    // The list has no progress and no pictures. They are requested while they change, and once at the end
    const models = await Promise.all(summaries.map(async (summary) => {
      const before = details.get(summary.model);
      if (before?.status === summary.status && !moves(summary)) return before;
      const model = ["TRAINING", "PREPARING", "READY"].includes(summary.status)
        ? await api.model(summary.model, signal).catch((error) => ({ ...summary, failed: error.status }))
        : summary;
      if (!model.failed) details.set(summary.model, model);
      return model;
    }));
    const now = models.map((model) => `${model.model}${fingerprint(model)}`).join();
    if (now !== seen || !seen) draw(models);
    seen = now || "none";
    return models.some(moves) ? seen : false;
  };

  const draw = (models) => {
    const full = limits.models && models.length >= limits.models;
    create.hidden = full || models.length === 0;
    if (!models.length) {
      body.replaceChildren(empty());
      return;
    }
    for (const model of models) {
      const print = fingerprint(model);
      if (cards.get(model.model)?.print !== print) cards.set(model.model, { print, element: card(model) });
      if (spoken.has(model.model) && spoken.get(model.model) !== model.status)
        announce(`${model.name}: ${word(model)}. ${sentence(model)}`);
      spoken.set(model.model, model.status);
    }
    // The element of an unchanged card stays, with the focus and its picture
    const elements = models.map((model) => cards.get(model.model).element);
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    list.replaceChildren(...elements);
    if (focused && !list.contains(document.activeElement)) list.querySelector(`a[href="${focused}"]`)?.focus();
    body.replaceChildren(...(full ? [notice("note", `You have all the ${limits.models} models that one person may have. Delete one to make room.`)] : []), list);
  };

  load()
    .then((more) => more !== false && poll(load, signal, { first: 4000 }))
    .catch((error) => signal.aborted || body.replaceChildren(notice("error", explained(error))))
    .finally(() => body.removeAttribute("aria-busy"));

  create.hidden = true;
  return h("div", {},
    h("div", { class: "heading" }, h("h1", {}, "Your models"), create),
    body);
}

function card(model) {
  const preview = (model.previews ?? [])[0];
  return h("li", { class: "card model" },
    h("div", { class: "thumb", "aria-hidden": "true" },
      preview ? h("img", { crossOrigin: "anonymous", src: preview, alt: "" }) : h("span", {}, [...model.name][0]?.toUpperCase() ?? "?")),
    h("div", { class: "about" },
      h("h2", {}, h("a", { href: `#/models/${encodeURIComponent(model.model)}` }, model.name)),
      h("p", { class: "hint" }, model.subject),
      pill(model),
      h("p", { class: "sentence" }, sentence(model)),
      bar(model)));
}

function empty() {
  return h("section", { class: "card empty" },
    h("h2", {}, "Nothing here yet"),
    h("p", {}, "Show it a few pictures of a pet, a mug, a face. A while later it draws that one, in any place you can name."),
    h("a", { class: "button", href: "#/new" }, "Create your first model"));
}
