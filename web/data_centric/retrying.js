import { h, notice } from "./shared/dom.js";
import { explained } from "./shared/http.js";

/**
 * A notice about a request that is being repeated. `show(error, now, words)` shows it, with a button that calls
 * `now`; `hide()` removes it.
 */
export function retrying() {
  const element = h("div", {});
  const words = h("p", {});
  let again = () => {};
  const button = h("button", { type: "button", class: "quiet small", onclick: () => again() }, "Try now");
  return {
    element,
    show(error, now, also = "") {
      again = now;
      const reason = error.status === 0 ? "The service cannot be reached." : explained(error);
      words.textContent = [reason, also, "The page tries again by itself."].filter(Boolean).join(" ");
      // A screen reader reads the notice when it appears, not at each attempt
      if (!element.hasChildNodes()) element.append(notice("error", words, button));
    },
    hide: () => element.replaceChildren(),
  };
}
