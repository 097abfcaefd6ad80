// The entrance: keeps the admission token that the waiting page hands over behind the "#", and goes on to where the shopper
// wanted to be. What is behind the "#" is sent to no server.
"use strict";

const LIFE_MAX_S = 600;
const TOKEN_TYPE = "flashsale-admission+jwt";
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

/** An address of this shop, wherever `to` points. With its origin: a path may begin with "//", which alone would name another host. */
function within(to) {
  try {
    const address = new URL(to, location.origin);
    const here = address.origin === location.origin && address.pathname !== location.pathname;
    return here ? address.origin + address.pathname + address.search + address.hash : "/";
  } catch {
    return "/";
  }
}

function read(part) {
  return JSON.parse(atob(part.replaceAll("-", "+").replaceAll("_", "/")));
}

/** How many seconds a token says it is good for, 0 for what has no token's form. Whether it is genuine is for the shop to say. */
function lifeOf(token) {
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) || token.length > 4096) return 0;
  try {
    const [header, claims] = token.split(".").slice(0, 2).map(read);
    // Not by this machine's clock, which may be wrong: the token was made a moment ago.
    const life = Math.floor(Math.min(LIFE_MAX_S, claims.exp - claims.iat));
    return header.typ === TOKEN_TYPE && life > 0 ? life : 0;
  } catch {
    return 0;
  }
}

function keep(token, life) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${cookie}=${token}; Path=/; Max-Age=${life}; SameSite=Lax${secure}`;
  return document.cookie.split("; ").includes(`${cookie}=${token}`);
}

const token = new URLSearchParams(location.hash.slice(1)).get("flashsale_token") ?? "";
const life = lifeOf(token);
const onwards = within(new URLSearchParams(location.search).get("to") ?? "/");
document.getElementById("onwards").href = onwards;

function say(headline, sentence) {
  document.title = document.querySelector("h1").textContent = headline;
  document.getElementById("message").textContent = sentence;
}

if (!life) {
  say("No admission here", "The shop shows you the way to the waiting page.");
} else if (keep(token, life)) {
  location.replace(onwards);
} else {
  say("Cookies are off", "The shop cannot see that you were let in, because your browser keeps no cookies for it. Allow them and load this page again.");
}
