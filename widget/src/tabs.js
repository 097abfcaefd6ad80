// Other tabs of the same shopper on the same origin: they hear each document, so that one of them asks for all, and what is kept is
// changed by one at a time. A browser that refuses either is asked by every tab for itself.

export class Tabs {
  #name;
  #channel = null;

  constructor(dropId, hear) {
    this.#name = `flashsale:${dropId}`;
    try {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => hear(data ?? {});
    } catch {} // storage is blocked, and with it what tabs share
  }

  tell(message) {
    this.#channel?.postMessage(message);
  }

  /** Does `work` while no other tab does its own. */
  async alone(work) {
    let begun = null;
    const begin = () => (begun ??= work());
    await globalThis.navigator?.locks?.request(this.#name, begin).catch(() => {});
    return begun ?? work();
  }

  close() {
    this.#channel?.close();
  }
}
