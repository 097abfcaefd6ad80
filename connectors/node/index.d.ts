/** Why somebody is not let in. The same words in every connector; new ones may be added, none changes its meaning. */
export type Code =
  | "token_missing"
  | "token_invalid"
  | "token_expired"
  | "token_early"
  | "wrong_issuer"
  | "wrong_audience"
  | "wrong_drop"
  | "old_epoch"
  | "keys_unavailable";

/** What a good token says: this shopper may buy in this drop for now. */
export interface Admission {
  /** The ticket's id; the same shopper keeps it for the whole drop. */
  subject: string;
  drop: string;
  epoch: number;
  /** The token's `jti`. */
  tokenId: string;
  issuedAtMs: number;
  expiresAtMs: number;
}

export interface Refusal {
  code: Code;
  /** A sentence for people. */
  detail: string;
}

export type Verdict = { admission: Admission; refusal: null } | { admission: null; refusal: Refusal };

export interface VerifierOptions {
  /** The service's `/.well-known/jwks.json`; fetched when first needed and kept as long as its Cache-Control says. */
  jwksUrl?: string;
  /** The same, decoded, where nothing may be fetched. */
  jwks?: { keys: object[] };
  /** The service's setting `tokens.issuer`. Default: `flashsale`. */
  issuer?: string;
  /** The service's setting `tokens.audience`. Default: `storefront`. */
  audience?: string;
  /** The only drop whose tokens are good here. Default: any, which the caller then tells apart. */
  drop?: string | null;
  /** Tokens of an earlier epoch have ended. */
  minEpoch?: number;
  /** `https://queue.shop.example/v1/drops/{drop}/serving`, to learn each drop's epoch from. Default: only `minEpoch` counts. */
  servingUrl?: string;
  /** How long a token waits for keys or an epoch that are not at hand. Default: 2000. */
  timeoutMs?: number;
  /** Milliseconds since the Unix epoch. */
  now?: () => number;
  fetch?: typeof globalThis.fetch;
}

export interface Waiting {
  /** An edge worker's: keeps the worker until keys are renewed that are only used from the next request on. */
  waitUntil?: (promise: Promise<unknown>) => void;
}

/** Tells good admission tokens from all others. One is enough for a process. */
export class AdmissionVerifier {
  /** Throws a TypeError when neither or both of the keys' sources are given. */
  constructor(options: VerifierOptions);
  readonly drop: string | null;
  verify(token: string | null | undefined, waiting?: Waiting): Promise<Verdict>;
}

export interface DoorOptions {
  verifier: AdmissionVerifier;
  /** `https://queue.shop.example/drops/launch`. Default: nobody is led anywhere. */
  waitingPage?: string;
  /** The shop's own, `https://shop.example`; needed where a proxy ends TLS before the shop. Default: as each request says. */
  origin?: string;
  /** What is behind the door: these paths and everything below them. Default: everything. */
  paths?: string[];
  /** Default: `flashsale_admission`. */
  cookie?: string;
  /** Address of the page that keeps the token; the drop's `return_urls` has to allow it. Default: `/flashsale/enter`. Empty: none. */
  entrance?: string;
}

/** What the middleware needs of Express's, Connect's or node:http's request and response. */
export interface NodeRequest {
  method?: string;
  url?: string;
  headers: Record<string, string | string[] | undefined>;
  flashsale?: Admission | null;
}

export interface NodeResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body?: string): unknown;
}

/** Keeps a shop's door: what is asked for is let through, led to the waiting page, or refused. */
export class Door {
  constructor(options: DoorOptions);
  /** With a response, that is the answer; without one the request may go on. */
  verify(request: Request, waiting?: Waiting): Promise<{ admission: Admission | null; response: Response | null }>;
  /** Behind it, `request.flashsale` is the shopper's admission. */
  express(): (request: NodeRequest, response: NodeResponse, next: (error?: unknown) => void) => Promise<void>;
}
