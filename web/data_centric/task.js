import { api, persist, wait } from "./api.js";
import { choices } from "./choices.js";
import * as outbox from "./outbox.js";
import { progress } from "./progress.js";
import { retrying } from "./retrying.js";
import { marks, reasons } from "./review.js";
import { announce, h, notice } from "./shared/dom.js";
import { explained, serviceTime } from "./shared/http.js";
import { shortcuts } from "./shortcuts.js";
import { viewer } from "./viewer.js";

const SETTLE = 300; // milliseconds in which a second press for the last task does not answer the next
const WARNING = 60_000; // milliseconds before the end of a lease
const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds
const LOOK_AGAIN = 20_000; // milliseconds between two requests for a task while none is available

/** Returns the view of a run: its tasks, one after the other, until none is left. */
export function taskView({ name, signal }) {
  const bar = progress(name);
  const problem = retrying();
  const told = h("div", {}); // result of the last answer
  const place = h("div", { "aria-busy": "true" }, h("p", { class: "hint" }, "Loading…"));
  const help = instructions(name);
  const back = h("a", { class: "back", href: "#/" }, "Open runs");
  const root = h("div", { class: "labeling" },
    back,
    h("div", { class: "heading" }, h("h1", {}, name), help.button),
    bar.element, help.panel, problem.element, told, place);
  let task = null; // the current task: { key(name) }
  let news = ""; // result of the last answer, for screen readers
  const keys = (key) => (key === "i" ? help.toggle() : Boolean(task?.key(key)));
  const toggle = shortcuts({ root, actions: keys, signal });

  /** Shows a task or another content. The focus stays at the same control if there is one. */
  const show = (content) => {
    const focused = place.contains(document.activeElement) && document.activeElement;
    place.replaceChildren(content);
    place.removeAttribute("aria-busy");
    if (!focused) return;
    const key = focused.getAttribute("aria-keyshortcuts");
    const same = key && place.querySelector(`[aria-keyshortcuts="${CSS.escape(key)}"]`);
    (same ?? place.querySelector(".choice") ?? place.querySelector("button, a"))?.focus();
  };

  const request = async (ask) => {
    const answer = await persist(ask, signal, problem.show);
    problem.hide();
    return answer;
  };

  const find = async () => {
    const { runs } = await request(() => api.runs(signal));
    const run = runs.find((each) => each.name === name);
    if (!run) throw Object.assign(new Error(`There is no open run ${name}.`), { status: 404 });
    bar.show(run);
    help.show(run.instructions);
    return run;
  };

  const send = async (answer) => {
    const waiting = (error, now) => problem.show(error, now, "Your answer is kept in this browser until it is sent.");
    try {
      const counts = await outbox.deliver(answer, signal, waiting);
      bar.show(counts);
      news = `Answer ${counts.done} is saved.`;
      told.replaceChildren();
    } catch (error) {
      if (signal.aborted || error.status !== 409) throw error;
      told.replaceChildren(notice("error", "The time for the last task was over and another labeler got it. Your answer to it does not count."));
    }
    problem.hide();
  };

  const label = async () => {
    let run = await find();
    for (const answer of outbox.answers(name)) await send(answer);
    while (!signal.aborted) {
      const found = await request(() => api.task(name, signal));
      if (!found) {
        run = await find();
        await none(run);
        continue;
      }
      const choice = await shown(run, found);
      if (choice === undefined) continue; // request the task again, with its picture
      const answer = { run: name, item: found.item, choice };
      outbox.keep(answer);
      await send(answer);
    }
  };

  const none = async (run) => {
    task = null;
    const complete = run.complete >= run.items;
    const title = complete ? "All items are complete" : "No task for you at the moment";
    const words = complete
      ? "Thank you. More answers may be asked for where labelers disagree."
      : "You answered every item that you can get now. Others are being labeled by someone else. New tasks appear here by themselves.";
    announce([news, title].filter(Boolean).join(" "));
    await wait(LOOK_AGAIN, signal, (now) => show(h("section", { class: "card empty" },
      h("h2", {}, title),
      h("p", {}, words),
      h("button", { type: "button", onclick: now }, "Look again"))));
  };

  /** Shows a task; resolves to the choice, or to undefined if the task is to be requested again. */
  const shown = (run, { until, source, review }) => new Promise((resolve) => {
    const ended = new AbortController();
    const end = (choice) => {
      ended.abort();
      pick.set({ classes: false, unsure: false });
      pick.chosen(choice);
      resolve(choice);
    };
    const pick = choices({ classes: run.classes, marks: marks(review), pick: end });
    const picture = source.kind === "image" ? viewer(source.url) : null;
    const failed = h("div", {});
    signal.addEventListener("abort", () => ended.abort(), { signal: ended.signal });

    task = { key: (key) => pick.key(key) || Boolean(picture?.key(key)) };
    pick.set({ classes: false, unsure: false });
    show(h("div", { class: review ? "task review" : "task" },
      h("div", { class: "what" }, picture ? picture.element : text(source.text), failed, review && reasons(review)),
      h("div", { class: "answer" },
        h("h2", {}, review ? "Which label is right?" : "Which class is it?"),
        pick.element,
        h("p", { class: "hint" }, "An answer is final: it cannot be changed."),
        lease(until, ended.signal),
        toggle)));
    if (news) announce(`${news} The next task: ${picture ? "a picture" : source.text}`);

    const settled = new Promise((done) => setTimeout(done, SETTLE));
    Promise.all([picture?.loaded, settled]).then(
      () => ended.signal.aborted || pick.set({ classes: true, unsure: true }),
      () => {
        if (ended.signal.aborted) return;
        // A picture that cannot be loaded must not block its labeler
        pick.set({ classes: false, unsure: true });
        failed.replaceChildren(notice("error",
          h("p", {}, "The picture cannot be loaded. If it cannot be loaded again either, answer “Unsure”."),
          h("button", { type: "button", class: "quiet small", onclick: () => end(undefined) }, "Load it again")));
      });
  });

  label().catch((error) => {
    if (signal.aborted) return;
    task = null;
    problem.hide();
    show(ending(error));
  });
  return root;
}

function text(words) {
  return h("blockquote", { class: "card text", tabIndex: 0, dir: "auto", "aria-label": "The text to label" }, words);
}

/** Returns a text that announces that the lease ends soon, and that it has ended. */
function lease(until, signal) {
  const words = h("p", { class: "lease", role: "status" });
  const left = until * 1000 - serviceTime();
  const say = (after, sentence) => {
    const timer = setTimeout(() => { words.textContent = sentence; }, Math.min(Math.max(after, 0), LONGEST_TIMER));
    signal.addEventListener("abort", () => clearTimeout(timer));
  };
  say(left - WARNING, "Less than a minute is left for this task.");
  say(left, "The time for this task is over. Your answer still counts if no other labeler got the task.");
  return words;
}

/** Returns the run's instructions, open at the first visit in a tab. */
function instructions(name) {
  const key = `instructions:${name}`;
  const words = h("p", { dir: "auto" });
  const panel = h("section", { class: "card instructions", id: "instructions", "aria-label": "Instructions", hidden: true },
    words, h("button", { type: "button", class: "quiet small", onclick: () => { toggle(); button.focus(); } }, "Close"));
  const toggle = () => {
    if (!button.hidden) set(panel.hidden);
    return true;
  };
  const button = h("button", { type: "button", class: "quiet small", "aria-controls": "instructions", "aria-keyshortcuts": "i", hidden: true, onclick: toggle },
    "Instructions", h("kbd", { "aria-hidden": "true" }, "I"));
  const set = (open) => {
    panel.hidden = !open;
    button.setAttribute("aria-expanded", open ? "true" : "false");
    sessionStorage.setItem(key, open ? "open" : "closed");
  };
  return {
    button, panel, toggle,
    show(text) {
      words.textContent = text;
      button.hidden = !text;
      set(Boolean(text) && sessionStorage.getItem(key) !== "closed");
    },
  };
}

function ending(error) {
  const [title, words] = {
    403: ["You cannot label in this run", `${explained(error)} Ask the person who invited you if this is a mistake.`],
    404: ["This run is not open", explained(error)],
  }[error.status] ?? ["This did not work", explained(error)];
  return h("section", { class: "card empty", role: "alert" },
    h("h2", {}, title),
    h("p", {}, words),
    h("a", { class: "button", href: "#/" }, "Open runs"));
}
