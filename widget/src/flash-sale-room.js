// The file that a storefront loads; it defines the element.

import { FlashSaleRoom } from "./element.js";

if (!customElements.get("flash-sale-room")) customElements.define("flash-sale-room", FlashSaleRoom);

export { FlashSaleRoom };
