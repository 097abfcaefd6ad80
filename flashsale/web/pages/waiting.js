// The way on from the waiting page once the shopper is admitted: back to the shop with the token behind the #, where no server and no log
// sees it; or, where no shop is waiting, on to choosing here.
const room = document.querySelector("flash-sale-room");
const onward = document.getElementById("onward");
const back = document.getElementById("back");
const secret = document.getElementById("secret");

function keptSecret() {
  try {
    return JSON.parse(localStorage.getItem(`flashsale:${room.getAttribute("drop")}`))?.secret ?? "";
  } catch {
    return ""; // storage is blocked, or holds something else
  }
}

room.addEventListener("flash-sale-admitted", ({ detail }) => {
  if (back) back.href = `${back.dataset.to}#flashsale_token=${encodeURIComponent(detail.token)}`;
  if (secret) secret.value = keptSecret();
  onward.hidden = Boolean(secret) && !secret.value;
});

room.addEventListener("flash-sale-state", ({ detail }) => {
  if (detail.previous === "admitted") onward.hidden = true;
});
