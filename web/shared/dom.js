// Elements, made without ever parsing a text as HTML: what people wrote stays text.

/**
 * An element with its children. `on…` properties are listeners, `class` and `aria-…` are attributes, other
 * names are the element's own properties where it has them. Children: elements, texts; null is left out.
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
 * A labelled control with its hint and a place for its error. `control.setError(text)` shows one and tells
 * assistive technology; an empty text takes it away.
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

/** A message for all to read; `kind` is "error" or "note". */
export function notice(kind, ...content) {
  return h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" }, ...content);
}

/** Says something to those who hear the page, once as long as it is the same. */
export function announce(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}

/** A button that cannot be pressed again while what it started goes on. */
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

/** Asks before what cannot be undone; resolves to whether the person agreed. */
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

/** A date as the person's own machine writes it. */
export function when(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return "";
  return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(date);
}
