// A page that signs people in by the authorization code flow with PKCE, without a library.
//
// Tokens live in a variable of this module: not in localStorage, where any script of the origin would find them for as
// long as nobody clears it. A reload forgets them, and signing in again takes no password while the issuer knows the
// browser.

import { issuer } from "/issuer.js";

const clientId = "shop";
const redirectUri = `${location.origin}/`;
const scope = "openid profile roles cart:write payments:write";

const configuration = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();

/** What the issuer gave us, or null. */
let tokens = null;
/** The renewal under way: a refresh token is used once, however many requests wait for it. */
let renewal = null;

async function signIn() {
  const attempt = { verifier: random(), state: random() };
  // It has to outlive the redirect, and says nothing to anybody who does not have the code.
  sessionStorage.setItem("attempt", JSON.stringify(attempt));
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(attempt.verifier));
  location.assign(`${configuration.authorization_endpoint}?${new URLSearchParams({
    response_type: "code", client_id: clientId, redirect_uri: redirectUri, scope, state: attempt.state,
    code_challenge: base64url(new Uint8Array(hash)), code_challenge_method: "S256",
  })}`);
}

/** Ends a sign-in that the issuer has sent back here. */
async function completeSignIn() {
  const answer = new URLSearchParams(location.search);
  if (!answer.has("state")) return;
  history.replaceState(null, "", "/");
  const attempt = JSON.parse(sessionStorage.getItem("attempt"));
  sessionStorage.removeItem("attempt");
  // An answer that nobody here asked for may be somebody else's sign-in; `iss` is the issuer that we asked (RFC 9207).
  if (answer.get("state") !== attempt?.state || answer.get("iss") !== issuer) throw new Error("please sign in again");
  if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error"));
  await take({
    grant_type: "authorization_code", code: answer.get("code"), redirect_uri: redirectUri,
    code_verifier: attempt.verifier,
  });
}

async function renew() {
  renewal ??= take({ grant_type: "refresh_token", refresh_token: tokens.refresh_token }).finally(() => renewal = null);
  await renewal;
}

async function take(form) {
  const response = await fetch(configuration.token_endpoint, {
    method: "POST", body: new URLSearchParams({ ...form, client_id: clientId }),
  });
  const answer = await response.json();
  if (response.status >= 500) throw new Error("the issuer is not there at the moment; please try again");
  if (!response.ok) {
    tokens = null;
    throw new Error("your sign-in is over; please sign in again");
  }
  tokens = { ...tokens, ...answer };
}

function signOut() {
  const query = new URLSearchParams({ id_token_hint: tokens.id_token, post_logout_redirect_uri: redirectUri });
  tokens = null;
  location.assign(`${configuration.end_session_endpoint}?${query}`);
}

/** Calls our API, with a new access token where the one we have is over. */
async function call(path, options = {}) {
  // Without cookies: the page /password has some that hold a token, and two tokens in one request are an error.
  const attempt = () => fetch(path, {
    ...options, credentials: "omit", headers: tokens ? { authorization: `Bearer ${tokens.access_token}` } : {},
  });
  let response = await attempt();
  if (response.status === 401 && tokens) {
    await renew();
    response = await attempt();
  }
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response.json();
}

async function show() {
  const $ = id => document.getElementById(id);
  const products = await call("/api/products");
  list($("products"), products, product => {
    const button = document.createElement("button");
    button.textContent = "Add to cart";
    button.disabled = !tokens;
    button.onclick = act(() => call(`/api/cart/${product.id}`, { method: "POST" }));
    return [`${product.name}, ${price(product.cents)} `, button];
  });
  const names = ids => ids.map(id => products.find(product => product.id === id)?.name).join(", ");
  for (const [id, hidden] of [["sign-in", tokens], ["sign-out", !tokens], ["own", !tokens]]) $(id).hidden = Boolean(hidden);
  if (!tokens) return;
  const person = await (await fetch(configuration.userinfo_endpoint, {
    headers: { authorization: `Bearer ${tokens.access_token}` },
  })).json();
  $("person").textContent = `You are signed in as ${person.name ?? person.preferred_username}.`;
  const { cart, orders } = await call("/api/dashboard");
  list($("cart"), cart, id => [names([id])]);
  list($("orders"), orders, order => [names(order)]);
  // Whether it may is for the API to say; this only saves a person from a button that does not work.
  $("admin").hidden = !person.roles?.includes("admin");
  if (!$("admin").hidden) list($("all-orders"), await call("/api/admin/orders"), order => [`${order.person}: ${names(order.products)}`]);
}

function list(element, items, content) {
  element.replaceChildren(...items.map(item => {
    const entry = document.createElement("li");
    entry.append(...content(item));
    return entry;
  }));
}

/** An event handler that shows what came of it. */
function act(action) {
  return async () => {
    const problem = document.getElementById("problem");
    problem.textContent = "";
    try {
      await action();
    } catch (error) {
      problem.textContent = error.message;
    }
    await show().catch(error => problem.textContent = error.message);
  };
}

const price = cents => (cents / 100).toLocaleString("en", { style: "currency", currency: "EUR" });
const base64url = bytes => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

document.getElementById("sign-in").onclick = act(signIn);
document.getElementById("sign-in").disabled = false;
document.getElementById("sign-out").onclick = act(signOut);
document.getElementById("pay").onclick = act(() => call("/api/payment", { method: "POST" }));
await act(completeSignIn)();
