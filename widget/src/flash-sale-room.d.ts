/** What the room shows; also `data-state` on the element. */
export type RoomState =
  | "loading"
  | "before"
  | "ready"
  | "joined"
  | "drawing"
  | "waiting"
  | "called"
  | "admitted"
  | "paused"
  | "recovering"
  | "sold_out"
  | "closed"
  | "removed"
  | "moved"
  | "trouble";

/** Of every event. */
export interface DropDetail {
  drop: string;
}

export interface AdmittedDetail extends DropDetail {
  /** The admission token, for the shop's own server or for reserving. */
  token: string;
  /** By the service's clock. */
  expiresAtMs: number;
}

/** The admission ends in a minute. */
export interface EndingDetail extends DropDetail {
  /** By the service's clock. */
  expiresAtMs: number;
}

export interface PositionDetail extends DropDetail {
  /** People ahead; null before the draw. */
  position: number | null;
  /** P10 and P90 of the wait; null when nothing honest can be said. */
  etaMs: [number, number] | null;
  /** Probability that the stock reaches this place; null when it is unknown. */
  chance: number | null;
  queueNumber: number | null;
  entryNumber: number | null;
  /** How much of the line that was before this place is gone, from 0 to 1. */
  progress: number;
}

export interface ErrorDetail extends DropDetail {
  /** As in the service's problem documents, or `unreachable`, `offline`, `insecure`. */
  code: string;
  /** As the shopper reads it. */
  message: string;
}

export interface DrawDetail extends DropDetail {
  verified: boolean;
  /** Whether the commitment of before the draw was kept: only with it is it proven that the secret was not exchanged. */
  remembered: boolean;
  /** The step that does not hold or could not be checked, and in a sentence why. */
  step?: string;
  sentence?: string;
}

export interface StateDetail extends DropDetail {
  state: RoomState;
  previous: RoomState | null;
}

export interface PollAdvice {
  floor_ms: number;
  ceiling_ms: number;
  divisor: number;
}

/** The serving document; fields may be added. */
export interface ServingDocument {
  drop: string;
  epoch: number;
  state: "scheduled" | "waiting" | "open" | "paused" | "closed" | "recovering";
  now_ms: number;
  opens_at_ms: number;
  closes_at_ms: number;
  joined: number;
  entries: number;
  key: string | null;
  serving_number: number;
  rate_per_min: number;
  available: Record<string, number>;
  reserved: Record<string, number>;
  sold_out: boolean;
  cut_line: number | null;
  poll: PollAdvice;
  notice: string | null;
  [field: string]: unknown;
}

export interface ServingDetail extends DropDetail {
  document: ServingDocument;
}

export interface Handoff {
  handoff: string;
  expiresAtMs: number;
}

export interface FlashSaleEventMap {
  "flash-sale-admitted": CustomEvent<AdmittedDetail>;
  "flash-sale-ending": CustomEvent<EndingDetail>;
  "flash-sale-position": CustomEvent<PositionDetail>;
  "flash-sale-sold-out": CustomEvent<DropDetail>;
  "flash-sale-closed": CustomEvent<DropDetail>;
  "flash-sale-error": CustomEvent<ErrorDetail>;
  "flash-sale-draw": CustomEvent<DrawDetail>;
  "flash-sale-state": CustomEvent<StateDetail>;
  "flash-sale-serving": CustomEvent<ServingDetail>;
}

export class FlashSaleRoom extends HTMLElement {
  /** The drop's id. */
  drop: string;
  /** Origin of the service; the one this file came from when it is not set. */
  api: string;
  /** An invite code. */
  code: string;
  /** Join without a click. */
  auto: boolean;
  /** Who the shopper is: a JWT of the storefront. */
  identity: string | undefined;
  readonly state: RoomState;
  /** The admission token while it holds. */
  readonly token: string | null;
  /**
   * Joins the line; with the code of the shopper's other device, takes that place over. What stands in the way is shown. A browser
   * that has a place keeps it, and the code is left unused. Rejects with `code: "disconnected"` while the element is in no page, as
   * the two below do.
   */
  join(options?: { handoff?: string }): Promise<void>;
  /** Gives the place up. Rejects with an error whose `code` says why, and then forgets nothing. */
  leave(): Promise<void>;
  /** A code with which the shopper's other device takes the place over. Rejects with an error whose `code` says why. */
  handoff(): Promise<Handoff>;
  /** Forgets the place in this browser. */
  reset(): void;
  addEventListener<K extends keyof FlashSaleEventMap>(
    type: K,
    listener: (this: FlashSaleRoom, event: FlashSaleEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: HTMLElement, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "flash-sale-room": FlashSaleRoom;
  }
  // The events bubble: a page may listen anywhere above the element.
  interface DocumentEventMap extends FlashSaleEventMap {}
  interface WindowEventMap extends FlashSaleEventMap {}
}
