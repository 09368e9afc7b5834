import { signIn } from "./auth.js";
import { busy, field, h, notice } from "./dom.js";

/** Sign in; choose a password where the first one was only lent; prove the second factor of who has one. */
export function signInView({ done }) {
  const email = h("input", { type: "email", name: "email", autocomplete: "username", required: true });
  const password = h("input", { type: "password", name: "password", autocomplete: "current-password", required: true });
  const button = h("button", { type: "submit" }, "Sign in");
  const failed = h("div", {});

  const go = (asked) => {
    if (!asked) done();
    else if (asked.wants === "password") choose(asked.answer);
    else prove(asked.answer);
  };

  const prove = (send) => {
    const code = h("input", { name: "code", inputMode: "numeric", autocomplete: "one-time-code", required: true });
    const check = h("button", { type: "submit" }, "Go on");
    const submit = async (event) => {
      event.preventDefault();
      if (!code.value.trim()) return complain(code, "Enter the code.");
      try {
        go(await busy(check, "Checking…", () => send(code.value.trim())));
      } catch (error) {
        complain(code, error.message);
      }
    };
    card.replaceChildren(
      h("h1", {}, "Your second factor"),
      h("p", { class: "lead" }, "Enter the code that your authenticator shows."),
      h("form", { onsubmit: submit, noValidate: true }, field("Code", code), check),
    );
    code.focus();
  };

  const choose = (send) => {
    const chosen = h("input", { type: "password", name: "new-password", autocomplete: "new-password", required: true });
    const again = h("input", { type: "password", name: "repeated", autocomplete: "new-password", required: true });
    const save = h("button", { type: "submit" }, "Save and sign in");
    const wrong = h("div", {});
    const submit = async (event) => {
      event.preventDefault();
      wrong.replaceChildren();
      if (!chosen.value) return complain(chosen, "Choose a password.");
      if (chosen.value !== again.value) return complain(again, "The two passwords are not the same.");
      try {
        go(await busy(save, "Saving…", () => send(chosen.value)));
      } catch (error) {
        if (error.code === "InvalidPasswordException") complain(chosen, error.message);
        else wrong.replaceChildren(notice("error", error.message));
      }
    };
    card.replaceChildren(
      h("h1", {}, "Choose your password"),
      h("p", { class: "lead" }, "The password you were given works once. From now on, use one that only you know."),
      wrong,
      h("form", { onsubmit: submit, noValidate: true }, field("New password", chosen), field("The same again", again), save),
    );
    chosen.focus();
  };

  const submit = async (event) => {
    event.preventDefault();
    failed.replaceChildren();
    if (!email.value.trim()) return complain(email, "Enter your email address.");
    if (!password.value) return complain(password, "Enter your password.");
    try {
      go(await busy(button, "Signing in…", () => signIn(email.value.trim(), password.value)));
    } catch (error) {
      // One sentence for both, as Cognito has it: who has an account is nobody's business
      const known = ["NotAuthorizedException", "UserNotFoundException"].includes(error.code);
      failed.replaceChildren(notice("error", known ? "That email address and password do not match." : error.message));
      password.select();
    }
  };

  const card = h("section", { class: "card narrow" },
    h("h1", {}, "Sign in"),
    h("p", { class: "lead" }, "Make new pictures of what you love, from a handful of your own."),
    failed,
    h("form", { onsubmit: submit, noValidate: true }, field("Email", email), field("Password", password), button));
  return card;
}

function complain(control, text) {
  control.setError(text);
  control.focus();
}
