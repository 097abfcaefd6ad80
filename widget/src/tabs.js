// Other tabs of the same shopper on the same origin: they hear each document, so that one of them asks for all, and what is kept is
// changed by one at a time. A browser that refuses either is asked by every tab for itself.

/** A channel to the other tabs; null where storage is blocked, and with it what tabs share. */
export function channelOf(name, hear) {
  try {
    const channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => hear(data);
    return channel;
  } catch {
    return null;
  }
}

/** Does `work` while no other tab does its own under that name. */
export async function alone(name, work) {
  let begun;
  const begin = () => (begun ??= work());
  await navigator.locks?.request(name, begin).catch(() => {});
  return begin();
}
