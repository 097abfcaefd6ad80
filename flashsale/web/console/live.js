// The live numbers of one drop: an event stream that comes back by itself, and says honestly when it has not.

import { read, Refusal, refusalOfStream, setClock } from "./api.js";

const STALE_MS = 4_000; // the stream has a beat a second
const DEAD_MS = 12_000; // a connection that is silent for so long leads nowhere any more, and nobody has said so
const RETRY_FIRST_MS = 2_000;
const RETRY_MOST_MS = 15_000;

/** What a connection can be. */
export const LINK = { CONNECTING: "connecting", LIVE: "live", LOST: "lost", REFUSED: "refused", TROUBLE: "trouble", ENDED: "ended" };

export class LiveStream {
  #path;
  #told;
  #source = null;
  #retry = null;
  #retryMs = RETRY_FIRST_MS;
  #watch = null;
  #heardMs = 0;
  #stopped = false;
  link = LINK.CONNECTING;
  /** when the last numbers came, by this browser's clock */
  lastMs = null;
  /** why there are none, in words */
  why = "";
  /** the code of the trouble, while the link is that */
  trouble = "";

  /**
   * @param {string} path of the drop
   * @param {object} told live(data) of every beat; read(drop) instead of it while there is no stream to be had; link() when the
   *   connection may have changed; ended() when the drop has; failed(refusal) when nothing can be had any more
   */
  constructor(path, told) {
    this.#path = path;
    this.#told = told;
    this.#watch = setInterval(() => this.#look(), 500);
    addEventListener("online", this.#again);
    addEventListener("offline", this.#offline);
    this.#open();
  }

  /** Ends it for good. */
  stop() {
    this.#stopped = true;
    this.#source?.close();
    clearTimeout(this.#retry);
    clearInterval(this.#watch);
    removeEventListener("online", this.#again);
    removeEventListener("offline", this.#offline);
  }

  #open() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#heardMs = Date.now();
    const source = new EventSource(`${this.#path}/live`);
    this.#source = source;
    source.addEventListener("live", (event) => this.#heard(JSON.parse(event.data)));
    source.addEventListener("trouble", (event) => this.#heardTrouble(JSON.parse(event.data)));
    source.addEventListener("ended", () => this.#end());
    source.addEventListener("error", () => this.#failed(source));
  }

  #heard(data) {
    this.lastMs = this.#heardMs = Date.now();
    this.#retryMs = RETRY_FIRST_MS;
    setClock(data.now_ms);
    this.#set(LINK.LIVE, "");
    this.#told.live(data);
  }

  /** The service answers, and cannot look at the drop just now. */
  #heardTrouble({ code, detail }) {
    this.#heardMs = Date.now();
    this.#retryMs = RETRY_FIRST_MS;
    this.trouble = code;
    this.#set(LINK.TROUBLE, detail);
  }

  #end() {
    this.stop();
    this.#set(LINK.ENDED, "");
    this.#told.ended();
  }

  #failed(source) {
    if (this.#stopped || source !== this.#source) return;
    this.#set(LINK.LOST, this.link === LINK.LOST ? this.why : "The connection was lost.");
    if (source.readyState === EventSource.CLOSED) this.#ask(); // it was answered, and not with a stream: it does not come back by itself
  }

  /** Finds out why there is no stream, and tries again later when that can help. */
  async #ask() {
    try {
      const drop = await read(this.#path);
      const refusal = await refusalOfStream(`${this.#path}/live`);
      if (this.#stopped) return;
      this.lastMs = Date.now();
      this.#set(LINK.REFUSED, whyRefused(refusal));
      this.#told.read(drop);
    } catch (error) {
      if (this.#stopped) return;
      if (error.status >= 400 && error.status < 500 && error.status !== 429) {
        this.stop();
        this.#told.failed(error);
        return;
      }
      if (error instanceof Refusal) this.#set(LINK.LOST, error.message);
      else reportError(error); // a mistake of the page is no end of the live view
    }
    this.#later();
  }

  #later() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), this.#retryMs * (0.75 + Math.random() / 2));
    this.#retryMs = Math.min(RETRY_MOST_MS, this.#retryMs * 1.6);
  }

  #look() {
    const silentMs = Date.now() - this.#heardMs;
    if (silentMs > STALE_MS && [LINK.LIVE, LINK.TROUBLE].includes(this.link)) this.#set(LINK.LOST, "No numbers have come for some seconds.");
    else if (this.link !== LINK.LIVE) this.#told.link();
    if (silentMs > DEAD_MS && this.#source.readyState !== EventSource.CLOSED) this.#open();
  }

  #again = () => {
    if (this.link !== LINK.LIVE && !this.#stopped) this.#open();
  };

  #offline = () => this.#set(LINK.LOST, "This browser is offline.");

  #set(link, why) {
    const changed = link !== this.link || why !== this.why;
    this.link = link;
    this.why = why;
    if (changed) this.#told.link();
  }
}

function whyRefused(refusal) {
  if (refusal === null) return "The live view broke off; it is asked for again.";
  if (["busy", "rate_limited"].includes(refusal.code)) return "There is no room for another live view: a key may have ten, a worker fifty.";
  return `The live view cannot be had: ${refusal.message}`;
}
