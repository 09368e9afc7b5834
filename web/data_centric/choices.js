import { field, h } from "./shared/dom.js";

// Keys of the classes in their order. U is for unsure, I for the instructions
const KEYS = [..."123456789", ..."abcdefghjklmnopqrstvwxyz"];
const UNSURE = "u";

/**
 * The buttons of the classes, and "unsure". `pick(choice)` is called with the index of a class, or null. `marks`
 * are words at a class, by its name. `key(name)` returns whether it used the key.
 */
export function choices({ classes, marks, pick }) {
  let open = { classes: false, unsure: false };

  const button = (choice, name, key) => {
    const press = () => {
      if (choice === null ? open.unsure : open.classes) pick(choice);
    };
    return h("button", { type: "button", class: choice === null ? "choice quiet unsure" : "choice quiet", "aria-keyshortcuts": key, onclick: press },
      key && h("kbd", { "aria-hidden": "true" }, key.toUpperCase()),
      h("span", { class: "name" }, name, (marks.get(name) ?? []).map((mark) => h("span", { class: "mark" }, mark))));
  };
  const buttons = classes.map((name, place) => button(place, name, KEYS[place]));
  const unsure = button(null, "Unsure", UNSURE);
  const all = new Map([...buttons.entries(), [null, unsure]]);
  const byKey = new Map([...buttons.map((each, place) => [KEYS[place], each]), [UNSURE, unsure]]);

  return {
    element: h("div", { class: "choices" },
      buttons.length > KEYS.length && search(classes, buttons),
      h("div", { class: "classes", role: "group", "aria-label": "Classes" }, buttons),
      unsure),
    /** Opens the buttons or closes them; closed ones keep the focus. */
    set(state) {
      open = state;
      for (const [choice, each] of all)
        each.setAttribute("aria-disabled", (choice === null ? open.unsure : open.classes) ? "false" : "true");
    },
    /** Shows which answer was given; undefined: none. */
    chosen(answer) {
      for (const [choice, each] of all) each.classList.toggle("chosen", choice === answer);
    },
    key(name) {
      byKey.get(name)?.click();
      return byKey.has(name);
    },
  };
}

/** A field that shows the classes whose names contain its text. Enter goes to the first. */
function search(classes, buttons) {
  const input = h("input", { type: "search", autocomplete: "off" });
  input.addEventListener("input", () => {
    const text = input.value.trim().toLowerCase();
    for (const [place, name] of classes.entries()) buttons[place].hidden = !name.toLowerCase().includes(text);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") buttons.find((each) => !each.hidden)?.focus();
  });
  return field("Find a class", input);
}
