// Runs the script of web/verify-draw.html before a made-up document: there is no browser here, and this is enough to see what it says.
// Arguments: the script's address, and JSON {files: [text, …], commitment, location: {search, hash}, answers: {address: text}}.
const elements = {};
const element = () => ({
  value: "", textContent: "", children: [], listeners: {}, classList: { add() {}, remove() {} },
  addEventListener(name, listener) { this.listeners[name] = listener; },
  replaceChildren(...all) { this.children = all; },
});
globalThis.document = { getElementById: (id) => (elements[id] ??= element()), createElement: element };

const { files, commitment, location, answers = {} } = JSON.parse(process.argv[3]);
globalThis.location = location;
const asked = [];
globalThis.fetch = async (address) => {
  asked.push(address);
  const text = answers[address];
  return { ok: text !== undefined, status: text === undefined ? 404 : 200, text: async () => text, json: async () => ({ detail: "There is no such drop." }) };
};
const taken = files.map((content, i) => ({ name: `file ${i}`, size: content.length, text: async () => content }));
await import(process.argv[2]);
if (commitment !== null) document.getElementById("commitment").value = commitment;
await document.getElementById("files").listeners.change({ target: { files: taken } });
const steps = document.getElementById("steps").children.map((item) => [item.className, item.textContent]);
process.stdout.write(JSON.stringify({ said: document.getElementById("missing").textContent, steps, asked }));
