// Calls functions of the console's modules: [[module, name, ...arguments], …] on stdin, their answers on stdout.

import { text } from "node:stream/consumers";

const { folder, asked } = JSON.parse(await text(process.stdin));
const answers = [];
for (const [file, name, ...given] of asked) {
  const module = await import(`${folder}/${file}.js`);
  answers.push(name === "History" ? ofHistory(module, ...given) : module[name](...given));
}
process.stdout.write(JSON.stringify(answers));

function ofHistory(module, samples, method, ...given) {
  const history = new module.History(samples);
  return method === "samples" ? history.samples : history[method](...given);
}
