// Sign-in with Amazon Cognito's own JSON API. Tokens live as long as the tab: in its session storage.

const KEY = "session";
const EARLY = 60_000; // a token is renewed this long before it ends, in milliseconds

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
 * Signs in. Resolves to null, or to what is asked next: `{ wants: "password" | "code", answer }`, where
 * `answer(text)` resolves as this does. Raises `SignInError`.
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

/** Whether people may make accounts of their own. */
export const mayRegister = () => Boolean(settings.selfSignUp);

/** Makes an account, which is confirmed by the code that is sent to the address. These raise `SignInError`. */
export const register = (email, password) =>
  ask("SignUp", { Username: email, Password: password, UserAttributes: [{ Name: "email", Value: email }] });
export const confirm = (email, code) => ask("ConfirmSignUp", { Username: email, ConfirmationCode: code });

/** Has a code sent with which a new password can be set. */
export const forget = (email) => ask("ForgotPassword", { Username: email });
export const reset = (email, code, password) =>
  ask("ConfirmForgotPassword", { Username: email, ConfirmationCode: code, Password: password });

/** The id token, which the API asks for, renewed when it is about to end; null when the person has to sign in again. */
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

/** Forgets the tokens here at once, and asks Cognito to take the refresh token back. */
export async function signOut() {
  const now = session();
  sessionStorage.removeItem(KEY);
  if (now?.refresh) await ask("RevokeToken", { Token: now.refresh }).catch(() => {});
}
