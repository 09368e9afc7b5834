import * as auth from "./auth.js";
import { busy, field, h, notice } from "./dom.js";

const KNOWN = {
  // The same sentence for both, as in Cognito, so that it does not reveal who has an account
  NotAuthorizedException: "That email address and password do not match.",
  UserNotFoundException: "That email address and password do not match.",
};
const AT = { InvalidPasswordException: "chosen", CodeMismatchException: "code", ExpiredCodeException: "code", UsernameExistsException: "email" };

/** Returns the sign-in form, with the forms for a new password, a second factor and a new account. */
export function signInView({ lead, done }) {
  const card = h("section", { class: "card narrow" });

  /**
   * Shows a form. `submit` gets the values of its fields; an error that it throws is shown at the field it is about,
   * or else above the form.
   */
  const step = ({ title, lead, fields, action, doing, submit, links = [] }) => {
    const button = h("button", { type: "submit" }, action);
    const failed = h("div", {});
    const onsubmit = async (event) => {
      event.preventDefault();
      failed.replaceChildren();
      for (const { control, missing } of Object.values(fields))
        if (!control.value.trim()) return complain(control, missing);
      const { chosen, again } = fields;
      if (again && chosen.control.value !== again.control.value)
        return complain(again.control, "The two passwords are not the same.");
      try {
        const values = Object.fromEntries(Object.entries(fields).map(([name, { control }]) => [name, control.value]));
        await busy(button, doing, () => submit(values));
      } catch (error) {
        const at = fields[AT[error.code]];
        if (at) complain(at.control, error.message);
        else failed.replaceChildren(notice("error", KNOWN[error.code] ?? error.message));
      }
    };
    card.replaceChildren(
      h("h1", {}, title),
      h("p", { class: "lead" }, lead),
      failed,
      h("form", { onsubmit, noValidate: true },
        Object.values(fields).map(({ label, control, hint }) => field(label, control, hint)),
        button),
      links.length && h("p", { class: "links" },
        links.map(([words, to]) => h("button", { type: "button", class: "link", onclick: to }, words))));
    return card;
  };

  const show = (...what) => step(...what).querySelector("input").focus();
  const email = (value = "") => ({
    label: "Email", missing: "Enter your email address.",
    control: h("input", { type: "email", name: "email", autocomplete: "username", required: true, value }),
  });
  const secret = (label, name, missing, hint) => ({
    label, missing, hint,
    control: h("input", { type: "password", name, autocomplete: name === "password" ? "current-password" : "new-password", required: true }),
  });
  const passwords = () => ({
    chosen: secret("New password", "chosen", "Choose a password.", "At least 12 characters, with capitals, digits and a symbol."),
    again: secret("The same again", "again", "Enter the password a second time."),
  });
  const code = () => ({
    label: "Code", missing: "Enter the code.",
    control: h("input", { name: "code", inputMode: "numeric", autocomplete: "one-time-code", required: true }),
  });

  const proceed = (asked) => {
    if (!asked) done();
    else if (asked.wants === "password")
      show({
        title: "Choose your password", action: "Save and sign in", doing: "Saving…", fields: passwords(),
        lead: "The password you were given works once. From now on, use one that only you know.",
        submit: async ({ chosen }) => proceed(await asked.answer(chosen)),
      });
    else
      show({
        title: "Your second factor", action: "Go on", doing: "Checking…", fields: { code: code() },
        lead: "Enter the code that your authenticator shows.",
        submit: async ({ code: text }) => proceed(await asked.answer(text.trim())),
      });
  };

  const enter = (known) => ({
    title: "Sign in", action: "Sign in", doing: "Signing in…",
    lead,
    fields: { email: email(known), password: secret("Password", "password", "Enter your password.") },
    submit: async (given) => proceed(await auth.signIn(given.email.trim(), given.password)),
    links: [
      ["Forgot your password?", () => show(forget())],
      ...(auth.mayRegister() ? [["Create an account", () => show(register())]] : []),
    ],
  });
  const back = ["Back to sign in", () => show(enter())];

  const register = () => ({
    title: "Create an account", action: "Create it", doing: "Creating…",
    lead: "A code will be sent to your email address.",
    fields: { email: email(), ...passwords() },
    submit: async ({ email: given, chosen }) => {
      const who = given.trim();
      await auth.register(who, chosen);
      show({
        title: "Check your email", action: "Go on", doing: "Checking…", fields: { code: code() },
        lead: `Enter the code that was sent to ${who}.`,
        submit: async ({ code: text }) => {
          await auth.confirm(who, text.trim());
          proceed(await auth.signIn(who, chosen));
        },
      });
    },
    links: [back],
  });

  const forget = () => ({
    title: "Choose a new password", action: "Send a code", doing: "Sending…",
    lead: "A code will be sent to your email address, if there is an account of that name.",
    fields: { email: email() },
    submit: async ({ email: given }) => {
      const who = given.trim();
      await auth.forget(who);
      show({
        title: "Check your email", action: "Save and sign in", doing: "Saving…",
        lead: `Enter the code that was sent to ${who}, and the password you want.`,
        fields: { code: code(), ...passwords() },
        submit: async ({ code: text, chosen }) => {
          await auth.reset(who, text.trim(), chosen);
          proceed(await auth.signIn(who, chosen));
        },
        links: [back],
      });
    },
    links: [back],
  });

  return step(enter());
}

function complain(control, text) {
  control.setError(text);
  control.focus();
}
