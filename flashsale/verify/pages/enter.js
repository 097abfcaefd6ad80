// The entrance: keeps the admission token that the waiting page hands over behind the "#", and goes on to where the shopper
// wanted to be. What is behind the "#" is sent to no server.
"use strict";

const LIFE_MAX_S = 600;
const cookie = document.currentScript.dataset.cookie;

/** An address of this shop, wherever `to` points. */
function within(to) {
  try {
    const address = new URL(to, location.origin);
    const here = address.origin === location.origin && address.pathname !== location.pathname;
    return here ? address.pathname + address.search + address.hash : "/";
  } catch {
    return "/";
  }
}

/** How long the token is good for, in seconds; whether it is genuine is for the shop to say. */
function lifeOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { iat, exp } = JSON.parse(atob(payload));
    // Not by this machine's clock, which may be wrong: the token was made a moment ago.
    return Math.min(LIFE_MAX_S, Math.max(0, Math.floor(exp - iat))) || LIFE_MAX_S;
  } catch {
    return LIFE_MAX_S;
  }
}

function keep(token) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${cookie}=${token}; Path=/; Max-Age=${lifeOf(token)}; SameSite=Lax${secure}`;
  return document.cookie.split("; ").includes(`${cookie}=${token}`);
}

const token = new URLSearchParams(location.hash.slice(1)).get("flashsale_token") ?? "";
const onwards = within(new URLSearchParams(location.search).get("to") ?? "/");
const message = document.getElementById("message");
document.getElementById("onwards").href = onwards;

if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) || token.length > 4096) {
  message.textContent = "There is no admission here. Go on to the shop, which shows you the way to the waiting page.";
} else if (keep(token)) {
  location.replace(onwards);
} else {
  message.textContent = "Your browser keeps no cookies for this shop, so the shop cannot see that you were let in. Allow cookies for it and try again.";
}
