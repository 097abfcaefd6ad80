// The way on from the waiting page once the shopper is admitted: back to the shop with the token behind the #, where no server and no log
// sees it; or, where no shop is waiting, on to choosing here, with the place that this browser keeps.
const room = document.querySelector("flash-sale-room");
const onward = document.getElementById("onward");
const back = document.getElementById("back");
const choose = document.getElementById("choose");
const cookieless = document.getElementById("cookieless"); // said where choosing is on pages of ours, which take cookies
const stuck = document.getElementById("stuck");
let handing = null; // the place, to those pages
let heir = ""; // the secret that it is handed to

function keptSecret() {
  try {
    return JSON.parse(localStorage.getItem(`flashsale:${room.getAttribute("drop")}`))?.secret ?? "";
  } catch {
    return ""; // storage is blocked, or holds something else
  }
}

// Without storage the place is only in the element: it is handed over, as to another device, to a secret that goes along. That can be
// done once; whoever was stopped on the way, or comes back, goes on with the same secret, and needs no code once it has the place.
async function handOver({ secret, handoff }) {
  stuck.hidden = true;
  handoff.value = await room.handoff().then((made) => made.handoff, codeless);
  secret.value = heir ||= crypto.randomUUID();
  choose.submit();
}

function codeless(error) {
  if (heir && error.code === "moved") return "";
  throw error;
}

room.addEventListener("flash-sale-admitted", ({ detail }) => {
  if (back) back.href = `${back.dataset.to}#flashsale_token=${encodeURIComponent(detail.token)}`;
  onward.hidden = cookieless?.hidden === false;
});

room.addEventListener("flash-sale-state", ({ detail }) => {
  if (detail.previous === "admitted") onward.hidden = !(heir && detail.state === "moved");
});

choose?.addEventListener("submit", (event) => {
  choose.elements.secret.value = keptSecret();
  if (keptSecret()) return;
  event.preventDefault();
  handing ??= handOver(choose.elements)
    .catch(() => (stuck.hidden = false))
    .finally(() => (handing = null)); // it can be tried again
});

if (cookieless) cookieless.hidden = navigator.cookieEnabled;
