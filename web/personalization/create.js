import { api } from "./api.js";
import { prepared, send } from "./pictures.js";
import { announce, busy, field, h, notice } from "./shared/dom.js";
import { explained } from "./shared/http.js";

const AT_ONCE = 3; // maximum number of simultaneous uploads

/** Returns the form for a new model: name, subject and pictures, which are uploaded before the training starts. */
export function createView({ limits, signal, go }) {
  const least = limits.images_min;
  const most = limits.images_max;
  const name = h("input", { name: "name", maxLength: 80, autocomplete: "off", required: true });
  const subject = h("input", { name: "subject", maxLength: 40, autocomplete: "off", required: true });
  const input = h("input", { type: "file", accept: "image/*", multiple: true, class: "unseen", id: "pictures", name: "pictures" });
  const tiles = h("ul", { class: "tiles" });
  const count = h("p", { class: "hint", id: "pictures-count", "aria-live": "polite" });
  const wrong = h("p", { class: "error", id: "pictures-error", hidden: true });
  const failed = h("div", {});
  const submit = h("button", { type: "submit" }, "Upload and start");
  const cancel = h("a", { class: "button quiet", href: "#/" }, "Cancel");
  const pictures = []; // { blob, tile, bar, again, sent }
  let made = null; // the model, once the API has made it
  signal.addEventListener("abort", () => pictures.forEach((picture) => URL.revokeObjectURL(picture.url)));

  const complain = (control, text) => {
    control.setError(text);
    control.focus();
  };
  input.setError = (text) => {
    wrong.textContent = text;
    wrong.hidden = !text;
    input.setAttribute("aria-invalid", text ? "true" : "false");
  };
  input.setAttribute("aria-describedby", "pictures-count pictures-error");

  const tell = () => {
    const now = pictures.length;
    const missing = least - now;
    count.textContent =
      now === 0 ? `${least} to ${most} pictures, from different sides and in different light.`
      : missing > 0 ? `${now} chosen, at least ${missing} more.`
      : `${now} of up to ${most} chosen.`;
  };

  const add = async (files) => {
    input.setError("");
    const problems = [];
    for (const file of files) {
      if (pictures.length >= most) {
        problems.push(`${most} pictures are enough; the rest was left out.`);
        break;
      }
      try {
        const blob = await prepared(file, limits);
        if (signal.aborted) return;
        show(file.name, blob);
      } catch (error) {
        problems.push(error.message);
      }
    }
    if (problems.length) input.setError(problems.join(" "));
    tell();
  };

  const show = (label, blob) => {
    const picture = { blob, url: URL.createObjectURL(blob), sent: false };
    picture.bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": `Upload of ${label}` });
    picture.again = h("button", { type: "button", class: "small", hidden: true, onclick: async () => {
      if ((await upload(picture)) && pictures.every(({ sent }) => sent)) await act();
    } }, "Try again");
    picture.remove = h("button", { type: "button", class: "remove", "aria-label": `Leave out ${label}`, onclick: () => {
      const place = pictures.indexOf(picture);
      pictures.splice(place, 1);
      picture.tile.remove();
      URL.revokeObjectURL(picture.url);
      tell();
      (pictures[Math.min(place, pictures.length - 1)]?.remove ?? input).focus();
    } }, "×");
    picture.tile = h("li", {}, h("img", { src: picture.url, alt: label }), picture.remove, picture.bar, picture.again);
    pictures.push(picture);
    tiles.append(picture.tile);
  };

  const drop = h("div", { class: "drop" },
    input,
    h("label", { class: "button quiet", htmlFor: "pictures" }, "Choose pictures"),
    h("span", { class: "hint wide" }, "or drop them here"));
  input.addEventListener("change", async () => {
    const files = [...input.files];
    input.value = "";
    await add(files);
  });
  for (const [kind, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]])
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", over);
      if (kind === "drop" && !made) add([...event.dataTransfer.files]);
    });

  /** Uploads a picture; resolves to whether it succeeded. */
  const upload = async (picture) => {
    picture.bar.hidden = false;
    picture.again.hidden = true;
    picture.tile.classList.remove("failed");
    try {
      await send(picture.upload, picture.blob, (part) => { picture.bar.value = part; });
      picture.sent = true;
      picture.tile.classList.add("sent");
    } catch (error) {
      picture.tile.classList.add("failed");
      picture.again.hidden = false;
      picture.problem = error.message;
    }
    return picture.sent;
  };

  /** Deletes the model after its uploads were rejected, so that the user can choose other pictures. */
  const unlock = async (error) => {
    await api.remove(made).catch(() => {});
    made = null;
    lock(false);
    for (const picture of pictures) {
      picture.sent = false;
      picture.bar.hidden = true;
      picture.tile.classList.remove("sent");
    }
    pictures[/^images\[(\d+)\]/.exec(error.field ?? "")?.[1]]?.tile.classList.add("failed");
  };

  /** Locks or unlocks the fields. They cannot be changed after the model was created. */
  const lock = (on) => {
    for (const control of [name, subject, input]) control.disabled = on;
    drop.hidden = on;
    for (const picture of pictures) picture.remove.hidden = on;
  };

  const finish = async () => {
    const waiting = pictures.filter((picture) => !picture.sent);
    const sender = async () => {
      for (let picture = waiting.shift(); picture && !signal.aborted; picture = waiting.shift()) await upload(picture);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, sender));
    if (signal.aborted) return;
    const left = pictures.filter((picture) => !picture.sent);
    if (left.length) {
      failed.replaceChildren(notice("error",
        `${left.length} of ${pictures.length} pictures did not arrive: ${left[0].problem} Try again, or cancel and begin anew.`));
      return;
    }
    try {
      await api.start(made);
    } catch (error) {
      if (error.status === 422) await unlock(error);
      throw error;
    }
    if (signal.aborted) return;
    announce("Your pictures have arrived.");
    go(`#/models/${made}`);
  };

  const places = { name, subject, images: input };
  const act = async () => {
    failed.replaceChildren();
    try {
      await busy(submit, made ? "Sending…" : "Sending your pictures…", async () => {
        if (!made) {
          const answer = await api.create({
            name: name.value.trim(),
            subject: subject.value.trim(),
            images: pictures.map(({ blob }) => ({ type: blob.type, bytes: blob.size })),
          });
          made = answer.model;
          answer.uploads.forEach((target, place) => { pictures[place].upload = target; });
          lock(true);
        }
        await finish();
      });
      if (made) submit.textContent = "Send the rest and start";
    } catch (error) {
      if (signal.aborted) return;
      const place = error.status === 422 && places[String(error.field ?? "").split(/[.[]/)[0]];
      if (place && !place.disabled) complain(place, explained(error));
      else failed.replaceChildren(notice("error", explained(error)));
    }
  };

  const onsubmit = async (event) => {
    event.preventDefault();
    if (!name.value.trim()) return complain(name, "Give it a name.");
    if (!/^[A-Za-z][A-Za-z0-9' -]*$/.test(subject.value.trim()))
      return complain(subject, "Say in a word or two what the pictures show: letters, digits, blanks.");
    if (pictures.length < least) return complain(input, `Choose at least ${least} pictures.`);
    await act();
  };

  tell();
  return h("div", { class: "form" },
    h("h1", {}, "New model"),
    failed,
    h("form", { class: "card", onsubmit, noValidate: true },
      field("Name", name, "For yourself, such as Miso."),
      field("What is it?", subject, "The plain word for it, such as cat, mug or person."),
      h("fieldset", { class: "field" }, h("legend", {}, "Pictures"), count, drop, wrong, tiles),
      h("div", { class: "actions" }, cancel, submit)));
}
