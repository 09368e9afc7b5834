// Keyboard shortcuts of single characters. Users can turn them off (WCAG 2.1.4).

import { h } from "./shared/dom.js";

const KEY = "shortcuts";

const stored = () => {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true;
  }
};

/**
 * Calls `actions(key)`, which returns whether it used the key, until `signal` is aborted. Held keys, keys with
 * Ctrl, Alt or Meta, and keys for a text field or an open dialog are ignored. `root` gets the class
 * `no-keys` while shortcuts are off. Returns the switch.
 */
export function shortcuts({ root, actions, signal }) {
  const box = h("input", { type: "checkbox", checked: stored() });
  const show = () => root.classList.toggle("no-keys", !box.checked);
  box.addEventListener("change", () => {
    show();
    try {
      localStorage.setItem(KEY, box.checked ? "on" : "off");
    } catch {
      // Without storage the choice is kept until the page is closed
    }
  });
  document.addEventListener("keydown", (event) => {
    if (!box.checked || event.defaultPrevented || event.isComposing) return;
    if (event.repeat && !event.key.startsWith("Arrow")) return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog")) return;
    if (actions(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
  }, { signal });
  show();
  return h("label", { class: "switch" }, box, "Keyboard shortcuts");
}
