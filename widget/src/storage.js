// What a page keeps of one place, in its own origin's storage. Other values in the same object are the page's and stay.

const OURS = [
  "v", "secret", "ticket", "receipt", "entry", "number", "line", "epoch", "from", "drawKey", "token", "tokenExpiresAtMs", "gone", "checked",
];

/** The epoch and the line of the place that a receipt is of; its signature is not checked here. */
export function seenIn(receipt) {
  const { epoch = 0, line = 0 } = JSON.parse(atob(receipt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  return { epoch, line };
}

export class Storage {
  #name;
  #memory = "{}";
  lasts = true; // what is kept survives this page

  constructor(dropId) {
    this.#name = `flashsale:${dropId}`;
    this.read();
  }

  /** Everything kept. Read anew each time: other tabs write, too. */
  read() {
    try {
      return Object(JSON.parse((this.lasts ? localStorage.getItem(this.#name) : this.#memory) ?? "{}"));
    } catch (error) {
      if (!(error instanceof SyntaxError)) this.lasts = false;
      return {};
    }
  }

  write(values) {
    this.#memory = JSON.stringify({ ...this.read(), v: 1, ...values });
    try {
      if (this.lasts) localStorage.setItem(this.#name, this.#memory);
    } catch {
      this.lasts = false;
    }
  }

  /** Forgets the place, and nothing of the page's. */
  forget() {
    this.write(Object.fromEntries(OURS.map((name) => [name, undefined])));
  }
}
