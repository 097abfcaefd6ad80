// The entrance: keeps the admission token that the waiting page hands over behind the "#", and goes on to where the shopper
// wanted to be. What is behind the "#" is sent to no server.
"use strict";

const LIFE_MAX_S = 600;
const cookie = document.currentScript.dataset.cookie;

// Not in the page: its policy allows no style there, and this way it has two files and not three.
const look = new CSSStyleSheet();
look.replaceSync(`
  body { margin: 0; font: 17px/1.5 system-ui, sans-serif; color: light-dark(#16181d, #f1f2f4); background: light-dark(#f4f5f7, #101216); }
  main { max-width: 34rem; margin: 0 auto; padding: 20vh 1.25rem 4rem; }
  h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; }
  a { color: light-dark(#0b5fff, #7aa7ff); display: inline-block; padding: .5rem 0; }
`);
document.adoptedStyleSheets = [look];

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
document.getElementById("onwards").href = onwards;

function say(headline, sentence) {
  document.title = document.querySelector("h1").textContent = headline;
  document.getElementById("message").textContent = sentence;
}

if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) || token.length > 4096) {
  say("No admission here", "The shop shows you the way to the waiting page.");
} else if (keep(token)) {
  location.replace(onwards);
} else {
  say("Cookies are off", "The shop cannot see that you were let in, because your browser keeps no cookies for it. Allow them and load this page again.");
}
