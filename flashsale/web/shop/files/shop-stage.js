// The pictures, and the model that may be turned while waiting.

const element = (id) => document.getElementById(id);
const picture = element("picture");
const canvas = element("model");
const front = element("front");
const views = [...document.querySelectorAll(".thumbs button")];
const hasModel = document.body.dataset.lamp === "yes";

let glaze = "";
let model = null; // once it is there
let asked = false;

const spares = () => navigator.connection?.saveData === true || matchMedia("(prefers-reduced-data: reduce)").matches;

function press(button) {
  for (const view of views) view.setAttribute("aria-pressed", String(view === button));
}

function showPicture(address, alt) {
  picture.hidden = !address;
  if (!address) return;
  if (picture.getAttribute("src") !== address) picture.src = address;
  picture.alt = alt;
}

function showModel(shown) {
  canvas.hidden = element("hint").hidden = !(shown && model);
  if (model) picture.hidden = shown;
}

// The chosen ware, from the front.
export function showPictures(ware) {
  glaze = ware.value.replace("halo-", "");
  element("stage").dataset.glaze = glaze;
  showPicture(ware.dataset.picture, ware.dataset.name);
  const small = front?.querySelector("img");
  if (small && ware.dataset.picture) small.src = ware.dataset.picture;
  picture.classList.remove("close-up");
  press(front);
  model?.setGlaze(glaze);
  showModel(true);
}

// Somebody waits: now there is time for the model, unless they spare data, and where it can be drawn.
export async function showWaiting() {
  if (asked || !hasModel || spares()) return;
  asked = true;
  try {
    const { load } = await import("./shop-viewer.js");
    model = await load(canvas, new URL("./halo.glb", import.meta.url), glaze);
  } catch {
    return; // the pictures stay
  }
  if (front.getAttribute("aria-pressed") === "true") showModel(true);
}

for (const view of views) {
  view.addEventListener("click", () => {
    press(view);
    picture.classList.toggle("close-up", view.classList.contains("close-up"));
    showPicture(view.dataset.picture ?? document.querySelector("input[name=sku]:checked").dataset.picture, view.querySelector("img").alt);
    showModel(view === front);
  });
}
element("turn-left").addEventListener("click", () => model?.turn(-1));
element("turn-right").addEventListener("click", () => model?.turn(1));
