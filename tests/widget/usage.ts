// How a storefront written in TypeScript uses the element; only its types are checked.

import { FlashSaleRoom, type AdmittedDetail, type RoomState } from "flash-sale-room";

const room = document.createElement("flash-sale-room");
room.drop = "launch";
room.api = "https://queue.shop.example";
room.identity = "header.payload.signature";
room.auto = true;

let token: string;
room.addEventListener("flash-sale-admitted", (event) => {
  const detail: AdmittedDetail = event.detail;
  token = detail.token;
});
document.addEventListener("flash-sale-position", ({ detail: { position, etaMs } }) => {
  const shown: string = position === null ? "?" : position.toFixed(0);
  const [low, high]: [number, number] = etaMs ?? [0, 0];
  document.title = `${shown} ${low + high}`;
});
room.addEventListener("flash-sale-ending", ({ detail: { expiresAtMs } }) => expiresAtMs.toFixed(0));
room.addEventListener("flash-sale-draw", ({ detail: { verified, remembered } }) => verified && remembered);
room.addEventListener("click", (event) => event.clientX);

const state: RoomState = room.state;
const isRoom: boolean = document.querySelector("flash-sale-room") instanceof FlashSaleRoom;
room.handoff().then(({ handoff, expiresAtMs }) => `${handoff} ${expiresAtMs.toFixed(0)}`);
room.join({ handoff: "code" }).then(() => room.leave());

// @ts-expect-error what it shows is not for a page to set
room.state = "admitted";
// @ts-expect-error there is no such state
const unknown: RoomState = "sleeping";

export { isRoom, state, unknown };
export const held = (): string => token;
