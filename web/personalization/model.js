import { api, poll } from "./api.js";
import { announce, busy, confirm, field, h, notice } from "./shared/dom.js";
import { explained } from "./shared/http.js";
import { bar, fingerprint, moves, pill, sentence, word } from "./status.js";

/** Returns the view of a model: status, preview pictures and generations. */
export function modelView({ model: id, limits, signal, go }) {
  const title = h("h1", {}, "Model");
  const state = h("section", { class: "card state", "aria-label": "Status", hidden: true });
  const firsts = h("div", {});
  const studio = h("div", {});
  const remove = h("button", { type: "button", class: "quiet danger" }, "Delete this model");
  const end = h("div", { class: "end", hidden: true }, remove);
  const page = h("div", { "aria-busy": "true" },
    h("a", { class: "back", href: "#/" }, "Your models"),
    h("div", { class: "heading" }, title),
    state, firsts, studio,
    end);
  let current = null;
  let seen = "";

  const load = async () => {
    const model = await api.model(id, signal);
    const now = fingerprint(model);
    if (now !== seen) draw(model);
    seen = now;
    return moves(model) ? now : false;
  };

  const draw = (model) => {
    if (current && current.status !== model.status) announce(`${model.name}: ${word(model)}. ${sentence(model)}`);
    const before = current;
    current = model;
    title.textContent = model.name;
    document.title = `${model.name} · Likeness`;
    end.hidden = false;
    state.hidden = model.status === "READY";
    state.replaceChildren(
      pill(model),
      h("p", { class: model.status === "FAILED" ? "sentence error" : "sentence" }, sentence(model)),
      ...[bar(model), ["CREATED", "FAILED"].includes(model.status) ? startButton(model) : null].filter(Boolean));
    const previews = model.previews ?? [];
    if (previews.length && (before?.previews ?? []).length !== previews.length)
      firsts.replaceChildren(
        h("section", {},
          h("h2", {}, "First pictures"),
          h("ul", { class: "gallery previews" }, previews.map((src, place) =>
            h("li", {}, h("img", { crossOrigin: "anonymous", src, alt: `First picture ${place + 1} of your ${model.subject}` }))))));
    if (model.status === "READY" && !studio.hasChildNodes())
      studio.replaceChildren(...makeStudio({ model, limits, signal }));
  };

  const startButton = (model) => {
    const button = h("button", { type: "button", onclick: async () => {
      try {
        await busy(button, "Starting…", () => api.start(id));
        begin();
      } catch (error) {
        state.append(notice("error", explained(error)));
      }
    } }, model.status === "FAILED" ? "Try again" : "Start");
    return button;
  };

  remove.addEventListener("click", async () => {
    const name = current?.name ?? "this model";
    const sure = await confirm(
      `Delete ${name}?`,
      "Its pictures, what was learned from them and everything made with it are deleted. This cannot be undone.",
      "Delete everything");
    if (!sure) return;
    try {
      await busy(remove, "Deleting…", () => api.remove(id));
      go("#/", `${name} is deleted.`);
    } catch (error) {
      if (!signal.aborted) remove.before(notice("error", explained(error)));
    }
  });

  const begin = () => load()
    .then((more) => more !== false && poll(load, signal))
    .catch((error) => {
      if (signal.aborted) return;
      const words = error.status === 404 ? "There is no such model among yours." : explained(error);
      page.replaceChildren(h("a", { class: "back", href: "#/" }, "Your models"), title, notice("error", words));
    })
    .finally(() => page.removeAttribute("aria-busy"));
  begin();
  return page;
}

/** Returns the form for a generation, and the earlier generations. */
function makeStudio({ model, limits, signal }) {
  const trigger = model.trigger ?? `sks ${model.subject}`;
  const prompt = h("textarea", { name: "prompt", rows: 3, maxLength: limits.prompt_chars, value: `a photo of ${trigger}` });
  const seed = h("input", { name: "seed", type: "text", inputMode: "numeric", autocomplete: "off", placeholder: "any" });
  const count = h("select", { name: "count" }, [1, 2, 3, 4].map((n) => h("option", { value: n, selected: n === 2 }, String(n))));
  const button = h("button", { type: "submit" }, "Make pictures");
  const failed = h("div", {});
  const waiting = h("div", {});
  const past = h("div", { class: "past" });
  const none = h("p", { class: "hint" }, "What you make is kept here.");

  const again = (item) => {
    prompt.value = item.prompt;
    seed.value = item.seed;
    count.value = item.count ?? item.images.length;
    prompt.focus();
    window.scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };

  const waking = () => {
    button.textContent = "Waking your model…";
    announce("Your model is being loaded.");
  };

  const places = { prompt, seed, count };
  const onsubmit = async (event) => {
    event.preventDefault();
    failed.replaceChildren();
    const words = prompt.value.trim();
    const number = seed.value.trim();
    if (!words) return complain(prompt, "Say what you want to see.");
    if (number && !(/^\d+$/.test(number) && Number(number) < 2 ** 32))
      return complain(seed, `A whole number from 0 to ${2 ** 32 - 1}, or nothing.`);
    const body = { prompt: words, count: Number(count.value), ...(number ? { seed: Number(number) } : {}) };
    waiting.replaceChildren(h("ul", { class: "gallery", "aria-hidden": "true" },
      Array.from({ length: body.count }, () => h("li", { class: "coming" }))));
    try {
      await busy(button, "Drawing…", async () => {
        const made = await complete(await api.generate(model.model, body, signal, waking), signal);
        if (signal.aborted) return;
        none.hidden = true;
        past.prepend(work({ ...body, ...made }, again));
        announce(`${made.images.length} new ${made.images.length === 1 ? "picture" : "pictures"}.`);
      });
    } catch (error) {
      if (signal.aborted) return;
      const place = places[String(error.field ?? "").split(/[.[]/)[0]];
      if (place) complain(place, explained(error));
      else failed.replaceChildren(notice("error", explained(error)));
    } finally {
      waiting.replaceChildren();
    }
  };

  const older = h("button", { type: "button", class: "quiet", hidden: true }, "Show older ones");
  const page = async (before) => {
    try {
      const { generations, next } = await api.generations(model.model, before, signal);
      const known = new Set([...past.children].map(({ id }) => id));
      const whole = generations.filter((item) => item.images?.length && !known.has(item.generation));
      past.append(...whole.map((item) => work(item, again)));
      none.hidden = past.hasChildNodes();
      older.hidden = !next;
      older.onclick = () => busy(older, "Loading…", () => page(next));
    } catch (error) {
      if (!signal.aborted) failed.replaceChildren(notice("error", explained(error)));
    }
  };
  page();

  return [
    h("section", { class: "card" },
      h("h2", {}, "Make pictures"),
      failed,
      h("form", { onsubmit, noValidate: true },
        field("What do you want to see?", prompt, `Write “${trigger}” for your ${model.subject}.`),
        h("div", { class: "row" },
          field("How many", count, "At once."),
          field("Seed", seed, "Same seed, same pictures."),
          button))),
    h("section", { "aria-label": "What you made" }, h("h2", {}, "What you made"), none, waiting, past, h("div", { class: "more" }, older)),
  ];
}

/** Resolves to the generation with its pictures; polls until they are made. Throws `Error` if that fails. */
async function complete(made, signal) {
  if (made.images?.length) return made;
  let found = made;
  await poll(async () => {
    found = await api.generation(made.generation, signal);
    if (found.status === "FAILED") throw Object.assign(new Error(found.reason ?? "The pictures could not be made."), { status: 404 });
    return found.images?.length ? false : "waiting";
  }, signal, { first: 1000, longest: 4000 });
  if (!found.images?.length && !signal.aborted) throw new Error(found.reason ?? "The pictures could not be made.");
  return found;
}

function work(item, again) {
  return h("article", { class: "work", id: item.generation },
    h("ul", { class: "gallery" }, item.images.map((src, place) => h("li", {}, picture(item, src, place)))),
    h("div", { class: "caption" },
      h("p", { class: "prompt" }, item.prompt),
      h("p", { class: "hint" }, `Seed ${item.seed}`),
      h("button", { type: "button", class: "quiet small", onclick: () => again(item) }, "Use again")));
}

function picture(item, src, place) {
  // With CORS, so that a download can use the same answer from the browser's cache
  const image = h("img", { crossOrigin: "anonymous", src, alt: `${item.prompt}, ${place + 1}`, loading: "lazy" });
  // The URL of a picture expires. If the page stayed open for longer, get a new one
  image.addEventListener("error", async () => {
    const fresh = await api.generation(item.generation).catch(() => null);
    if (fresh?.images?.[place]) image.src = fresh.images[place];
  }, { once: true });
  const save = async () => {
    try {
      const blob = await (await fetch(image.src)).blob();
      const url = URL.createObjectURL(blob);
      h("a", { href: url, download: `${item.generation}-${place + 1}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch {
      window.open(image.src, "_blank", "noopener");
    }
  };
  const button = h("button", { type: "button", class: "small save", "aria-label": `Download picture ${place + 1}`, onclick: save }, "Download");
  return h("figure", {}, image, button);
}

function complain(control, text) {
  control.setError(text);
  control.focus();
}
