// A page of the issuer's owner that asks for the password itself, by the session API. No script ever sees a token: they
// are in cookies, which the browser sends to our API and to the issuer.
//
// Cookies belong to a host, whatever the port, which is why this works on localhost. Elsewhere a reverse proxy has to put
// the issuer and the shop under one host.

import { issuer } from "/issuer.js";

const clientId = "shop";

/** Asks the issuer. `credentials` has the browser take and send cookies although the port is another. */
async function session(method, path = "", body = undefined) {
  const response = await fetch(`${issuer}/api/session${path}`, {
    method, credentials: "include",
    headers: body ? { "content-type": "application/json" } : {}, body: body && JSON.stringify(body),
  });
  if (response.status === 204) return null;
  const answer = await response.json();
  // `code` is for programs; `detail` is for people.
  if (!response.ok) throw Object.assign(new Error(answer.detail), { code: answer.code });
  return answer;
}

/** Calls our API, once more with new cookies where the access token is over. */
async function call(path, options) {
  let response = await fetch(path, options);
  if (response.status === 401) {
    await session("POST", "/refresh");
    response = await fetch(path, options);
  }
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response.json();
}

async function signIn(form) {
  const { username, password, remember } = Object.fromEntries(new FormData(form));
  await session("POST", "", { username, password, client_id: clientId, remember: remember === "on" });
  form.reset();
}

/** Who is signed in, or null: after a reload, say, when only the cookies know. */
async function person() {
  try {
    return (await session("GET").catch(() => session("POST", "/refresh"))).user;
  } catch (error) {
    if (error.code === "not-signed-in") return null;
    throw error;
  }
}

async function show() {
  const $ = id => document.getElementById(id);
  const user = await person();
  $("sign-in").hidden = Boolean(user);
  $("own").hidden = !user;
  $("person").textContent = user ? `You are signed in as ${user.name ?? user.preferred_username}.` : "You are not signed in.";
  if (!user) return;
  const { cart, orders } = await call("/api/dashboard");
  $("dashboard").textContent = `${cart.length} in your cart, ${orders.length} orders.`;
}

/** An event handler that shows what came of it. */
function act(action) {
  return async event => {
    event?.preventDefault();
    const problem = document.getElementById("problem");
    problem.textContent = "";
    try {
      await action(event);
      await show();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
}

document.getElementById("sign-in").onsubmit = act(event => signIn(event.target));
// Not before there is something to listen: the browser itself would send the password elsewhere.
document.querySelector("#sign-in button").disabled = false;
document.getElementById("sign-out").onclick = act(() => session("DELETE"));
document.getElementById("buy").onclick = act(() => call("/api/cart/1", { method: "POST" }));
await act(() => {})();
