#!/usr/bin/env node
// Opens two accounts, funds one, pays from it, and waits for what became of each.
//
//     npm install
//     SETTLED_AMQP_URI=amqp://… ./pay.mjs

import { createHash, randomBytes } from "node:crypto";
import amqp from "amqplib";
import { parse, stringify } from "lossless-json";

const TASKS = "payments";
const EVENTS = "payments.events";
const PATIENCE = 30_000; // milliseconds

// Amounts and balances have up to 19 digits, of which JSON.parse would keep 15 or 16. All numbers of an event
// are whole, so all of them become BigInt.
const read = (content) => parse(content.toString(), null, BigInt);

const asUuid = (bytes, version) => {
  bytes[6] = (bytes[6] & 0x0f) | (version << 4);
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
};

// Of version 7, whose first 48 bits are the time: kind to the database's index.
const uuid7 = () => {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  return asUuid(bytes, 7);
};

const opening = (account, limits = {}) => ({
  // The id comes from what is asked for, so that asking twice is asking once.
  id: asUuid(createHash("sha256").update(`https://shop.example/node/open/${account}`).digest().subarray(0, 16), 8),
  type: "open_account",
  account,
  currency: "USD",
  ...limits,
});

const transfer = (debit_account, credit_account, amount, more = {}) => ({
  id: uuid7(),
  type: "transfer",
  debit_account,
  credit_account,
  amount, // in cents, a whole number
  currency: "USD",
  ...more,
});

const connection = await amqp.connect(process.env.SETTLED_AMQP_URI);
const channel = await connection.createConfirmChannel();

const { queue: replies } = await channel.assertQueue("", { exclusive: true });
const { queue: events } = await channel.assertQueue("", { exclusive: true });
await channel.bindQueue(events, EVENTS, "payment.*");

let unroutable = 0;
channel.on("return", () => unroutable++);

const publish = (task) =>
  channel.publish(TASKS, `task.${task.type}`, Buffer.from(stringify(task)), {
    contentType: "application/json",
    persistent: true,
    mandatory: true,
    messageId: task.id,
    correlationId: task.id,
    replyTo: replies,
    appId: "shop",
  });

// No waiting in between: a later task sees what an earlier one has done.
const tasks = [
  opening("node:world", { min_balance: "none" }), // no lower limit: money comes from here
  opening("node:bob"),
  transfer("node:world", "node:bob", 10_000, { reference: "top-up-7" }),
  transfer("node:bob", "node:world", 1_250, { reference: "order-123", metadata: { channel: "web" } }),
  transfer("node:bob", "node:world", 1_000_000_000_000, { reference: "too-much" }),
];
tasks.forEach(publish);
// Rejects if the broker didn't store one. Then publish the same again: the id makes it safe.
await channel.waitForConfirms();
if (unroutable > 0) throw new Error("no queue takes tasks: is settled running?");

// A reply comes for each of these tasks, an event for each transfer (and other people's).
const wanted = new Set(tasks.map((task) => `reply ${task.id}`));
for (const task of tasks) if (task.type === "transfer") wanted.add(`event ${task.id}`);

await new Promise((resolve, reject) => {
  const late = () => reject(new Error(`no answer in time to ${[...wanted]}: publish the same again, or look it up`));
  const timer = setTimeout(late, PATIENCE);
  const take = (kind) => (message) => {
    const outcome = read(message.content);
    // At least once: the second time it is known.
    // A dead letter may have no id of its own.
    if (wanted.delete(`${kind} ${message.properties.correlationId}`)) console.log(stringify({ [kind]: outcome }));
    channel.ack(message);
    if (wanted.size > 0) return;
    clearTimeout(timer);
    resolve();
  };
  channel.consume(replies, take("reply"));
  channel.consume(events, take("event"));
});
await connection.close();
