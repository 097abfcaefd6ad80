// The way on from the waiting page once the shopper is admitted: back to the shop with the token behind the #, where no server and no log
// sees it; or, where no shop is waiting, on to choosing here, with the place that this browser keeps.
const room = document.querySelector("flash-sale-room");
const onward = document.getElementById("onward");
const back = document.getElementById("back");
const choose = document.getElementById("choose");
const cookieless = document.getElementById("cookieless"); // said where choosing is on pages of ours, which take cookies
let handing = null; // the place, to those pages

function keptSecret() {
  try {
    return JSON.parse(localStorage.getItem(`flashsale:${room.getAttribute("drop")}`))?.secret ?? "";
  } catch {
    return ""; // storage is blocked, or holds something else
  }
}

// Without storage the place is only in the element: it is handed over, as to another device, to a secret that goes along.
async function handOver({ secret, handoff }) {
  const made = await room.handoff();
  secret.value = crypto.randomUUID();
  handoff.value = made.handoff;
  choose.submit();
}

room.addEventListener("flash-sale-admitted", ({ detail }) => {
  if (back) back.href = `${back.dataset.to}#flashsale_token=${encodeURIComponent(detail.token)}`;
  onward.hidden = cookieless?.hidden === false;
});

room.addEventListener("flash-sale-state", ({ detail }) => {
  if (detail.previous === "admitted") onward.hidden = true;
});

choose?.addEventListener("submit", (event) => {
  choose.elements.secret.value = keptSecret();
  if (keptSecret()) return;
  event.preventDefault();
  handing ??= handOver(choose.elements).catch(() => (handing = null)); // it can be tried again
});

if (cookieless) cookieless.hidden = navigator.cookieEnabled;
