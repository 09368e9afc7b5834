// Texts and elements for the status of a model.

import { h } from "./shared/dom.js";

const WORDS = {
  CREATED: ["Not started", "Waiting for its pictures."],
  QUEUED: ["In line", "Waiting for a machine. You may close this page."],
  LAUNCHED: ["Starting", "A machine is being made ready."],
  TRAINING: ["Learning", "Learning what makes your pictures yours."],
  PREPARING: ["Finishing", "Packing up what was learned."],
  READY: ["Ready", "Ready for your ideas."],
  FAILED: ["Did not work", ""],
  DELETED: ["Deleted", ""],
};

/** Returns whether the status will change without an action of the user. */
export const moves = (model) => ["QUEUED", "LAUNCHED", "TRAINING", "PREPARING"].includes(model.status);

export const word = (model) => (WORDS[model.status] ?? [model.status])[0];

/** Returns a sentence about the status of a model. */
export function sentence(model) {
  if (model.status === "FAILED") return model.reason || "Something went wrong. Delete this model and create it anew.";
  const { stage, step, steps } = model.progress ?? {};
  if (model.status === "TRAINING" && stage === "previews") return "Making the first pictures.";
  if (model.status === "TRAINING" && steps) return `Learning your ${model.subject}: step ${step} of ${steps}.`;
  return (WORDS[model.status] ?? ["", ""])[1];
}

export function pill(model) {
  return h("span", { class: `pill ${String(model.status).toLowerCase()}` }, word(model));
}

/** Returns the progress bar, indeterminate if the progress is unknown; null if the status is final. */
export function bar(model) {
  if (!moves(model)) return null;
  const done = model.progress?.done;
  const known = model.status === "TRAINING" && done > 0;
  return h("div", { class: "progress" },
    h("progress", { max: 1, "aria-label": `Progress of ${model.name}`, ...(known ? { value: done } : {}) }),
    known ? h("span", { class: "percent" }, `${Math.floor(done * 100)} %`) : null);
}

/** Returns a text for the visible state of a model. It is the same as long as nothing changes. */
export const fingerprint = (model) =>
  JSON.stringify([model.status, model.reason, model.progress, (model.previews ?? []).length]);
