// Compiles the schemas of the directory in argv as ajv does in its strict mode, and says for each task on standard
// input, one a line, how many errors it has.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { join } from "node:path";
import Ajv from "ajv/dist/2020.js";
import formats from "ajv-formats";

const fail = (message) => {
  throw new Error(message);
};
const compile = (name) => {
  const ajv = new Ajv({ strict: true, discriminator: true, logger: { log: fail, warn: fail, error: fail } });
  formats(ajv);
  return ajv.compile(JSON.parse(readFileSync(join(process.argv[2], `${name}.schema.json`))));
};
const [task] = ["task", "event", "dead-letter"].map(compile);
for await (const line of createInterface({ input: process.stdin })) {
  console.log(task(JSON.parse(line)) ? 0 : task.errors.length);
}
