// Sign-in with Amazon Cognito's JSON API. Tokens are kept in the tab's session storage until it is closed.

const KEY = "session";
const EARLY = 60_000; // milliseconds before its end at which a token is renewed

let settings;
let renewal = null;

export class SignInError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export function setUp(config) {
  settings = config;
}

export function session() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

async function ask(action, body) {
  let response;
  try {
    response = await fetch(settings.cognitoEndpoint, {
      method: "POST",
      headers: {
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": `AWSCognitoIdentityProviderService.${action}`,
      },
      body: JSON.stringify({ ClientId: settings.clientId, ...body }),
    });
  } catch {
    throw new SignInError("Unreachable", "The sign-in service cannot be reached. Check the connection and try again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const code = String(answer.__type ?? "Error").split("#").pop();
    throw new SignInError(code, answer.message ?? answer.Message ?? "The sign-in service did not answer as it should.");
  }
  return answer;
}

function keep(result, before = {}) {
  const claims = JSON.parse(
    new TextDecoder().decode(
      Uint8Array.from(atob(result.IdToken.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0)),
    ),
  );
  sessionStorage.setItem(KEY, JSON.stringify({
    token: result.IdToken,
    refresh: result.RefreshToken ?? before.refresh,
    ends: Date.now() + result.ExpiresIn * 1000,
    user: claims.sub,
    email: claims.email ?? claims["cognito:username"],
  }));
}

/**
 * Signs in. Resolves to null, or to a challenge: `{ wants: "password" | "code", answer }`, where `answer(text)`
 * responds to it and resolves like `signIn`. Throws `SignInError`.
 */
export async function signIn(email, password) {
  return next(email, await ask("InitiateAuth", {
    AuthFlow: "USER_PASSWORD_AUTH",
    AuthParameters: { USERNAME: email, PASSWORD: password },
  }));
}

const CHALLENGES = {
  NEW_PASSWORD_REQUIRED: ["password", "NEW_PASSWORD"],
  SOFTWARE_TOKEN_MFA: ["code", "SOFTWARE_TOKEN_MFA_CODE"],
};

function next(email, { AuthenticationResult, ChallengeName, ChallengeParameters, Session }) {
  if (AuthenticationResult) {
    keep(AuthenticationResult);
    return null;
  }
  if (!CHALLENGES[ChallengeName])
    throw new SignInError("Challenge", `This page cannot answer the challenge ${ChallengeName}.`);
  const [wants, name] = CHALLENGES[ChallengeName];
  const user = ChallengeParameters?.USER_ID_FOR_SRP ?? email;
  const answer = async (text) => next(email, await ask("RespondToAuthChallenge", {
    ChallengeName,
    Session,
    ChallengeResponses: { USERNAME: user, [name]: text },
  }));
  return { wants, answer };
}

/** Returns whether users may create accounts themselves. */
export const mayRegister = () => Boolean(settings.selfSignUp);

/** Creates an account, which `confirm` confirms with the code that is sent to the address. Both throw `SignInError`. */
export const register = (email, password) =>
  ask("SignUp", { Username: email, Password: password, UserAttributes: [{ Name: "email", Value: email }] });
export const confirm = (email, code) => ask("ConfirmSignUp", { Username: email, ConfirmationCode: code });

/** Requests a code, with which `reset` sets a new password. */
export const forget = (email) => ask("ForgotPassword", { Username: email });
export const reset = (email, code, password) =>
  ask("ConfirmForgotPassword", { Username: email, ConfirmationCode: code, Password: password });

/** Resolves to the id token for the API, renewed if it ends soon; to null if the user has to sign in again. */
export async function token(renew = false) {
  const now = session();
  if (!now) return null;
  if (!renew && Date.now() < now.ends - EARLY) return now.token;
  renewal ??= ask("InitiateAuth", { AuthFlow: "REFRESH_TOKEN_AUTH", AuthParameters: { REFRESH_TOKEN: now.refresh } })
    .then((answer) => keep(answer.AuthenticationResult, now))
    .finally(() => { renewal = null; });
  try {
    await renewal;
  } catch (error) {
    if (error.code === "Unreachable") throw error;
    sessionStorage.removeItem(KEY);
    return null;
  }
  return session()?.token ?? null;
}

/** Removes the tokens from the tab at once, then revokes the refresh token in Cognito. */
export async function signOut() {
  const now = session();
  sessionStorage.removeItem(KEY);
  if (now?.refresh) await ask("RevokeToken", { Token: now.refresh }).catch(() => {});
}
