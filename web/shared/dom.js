// Creation of elements. Text is never parsed as HTML, so users' input stays text.

/**
 * Returns an element with its children. `on…` properties become listeners. Other names are set as properties of the
 * element if it has them, otherwise as attributes, such as `class` and `aria-…`. Children are elements and texts;
 * null is left out.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && name !== "form") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let nextId = 0;

/**
 * Returns a labelled control with a hint and room for an error. `control.setError(text)` shows an error, also to
 * assistive technology; an empty text removes it.
 */
export function field(label, control, hint = "") {
  control.id ||= `field-${(nextId += 1)}`;
  const error = h("p", { class: "error", id: `${control.id}-error`, hidden: true });
  const note = hint ? h("p", { class: "hint", id: `${control.id}-hint` }, hint) : null;
  const describedBy = note ? note.id : "";
  if (describedBy) control.setAttribute("aria-describedby", describedBy);
  control.setError = (text) => {
    error.textContent = text;
    error.hidden = !text;
    control.setAttribute("aria-invalid", text ? "true" : "false");
    control.setAttribute("aria-describedby", [text && error.id, describedBy].filter(Boolean).join(" "));
  };
  control.addEventListener("input", () => control.setError(""));
  return h("div", { class: "field" }, h("label", { htmlFor: control.id }, label), note, control, error);
}

/** Returns a message; `kind` is "error" or "note". */
export function notice(kind, ...content) {
  return h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" }, ...content);
}

/** Announces a text to screen readers, once until it changes. */
export function announce(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}

/** Disables a button and shows `words` on it while `work` runs; resolves like `work`. */
export async function busy(button, words, work) {
  const before = button.textContent;
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  button.textContent = words;
  try {
    return await work();
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
    button.textContent = before;
  }
}

/** Asks the user to confirm an action that cannot be undone; resolves to whether they did. */
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "dialog-title", onclose: () => { resolve(dialog.returnValue === "yes"); dialog.remove(); } },
      h("form", { method: "dialog" },
        h("h2", { id: "dialog-title" }, title),
        h("p", {}, text),
        h("div", { class: "actions" },
          h("button", { value: "no", class: "quiet", autofocus: true }, "Keep it"),
          h("button", { value: "yes", class: "danger" }, action))),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Returns a date in the format of the browser's locale; empty if it is invalid. */
export function when(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return "";
  return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(date);
}
