// The verifier, whose verdict a test decides; what it verifies has tests of its own, in tests/js.

import { world } from "./stage.mjs";

export { queueNumber } from "../../../web/verify-draw.js";

export const verifyPlace = (...all) => world.verifyPlace(...all);
