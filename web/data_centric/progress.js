import { h } from "./shared/dom.js";

const number = new Intl.NumberFormat();

/** A progress bar of a run. `show({ done, items, complete })` sets it. */
export function progress(name) {
  const bar = h("progress", { "aria-label": `Progress of ${name}` });
  const words = h("p", { class: "hint" });
  return {
    element: h("div", { class: "far" }, bar, words),
    show({ done, items, complete }) {
      bar.max = Math.max(items, 1);
      bar.value = complete;
      const own = done === 1 ? "1 answer" : `${number.format(done)} answers`;
      words.textContent = `${number.format(complete)} of ${number.format(items)} complete, ${own} by you`;
    },
  };
}
