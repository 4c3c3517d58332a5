#!/usr/bin/env node
// Prints the events of the stream.
//
//     npm install
//     SETTLED_AMQP_URI=amqp://… ./follow.mjs [first | OFFSET | TIME] [IDLE]
//
// TIME is ISO 8601. Ends after IDLE seconds without an event.

import amqp from "amqplib";
import { parse, stringify } from "lossless-json";

const [begin = "first", idle] = process.argv.slice(2);
const offset = () => {
  if (begin === "first") return begin;
  if (/^\d+$/.test(begin)) return Number(begin);
  return { "!": "timestamp", value: Math.floor(Date.parse(begin) / 1000) };
};

const connection = await amqp.connect(process.env.SETTLED_AMQP_URI);
const channel = await connection.createChannel();
await channel.prefetch(500); // a stream asks for a limit
let heard = Date.now();
const print = (message) => {
  heard = Date.now();
  const { headers, messageId, type } = message.properties;
  const offset = headers["x-stream-offset"];
  channel.ack(message); // asks for more: a stream keeps what is acknowledged
  // The broker begins with whole chunks.
  if (/^\d+$/.test(begin) && offset < Number(begin)) return;
  // Keep the offset with what you make of the event, and begin at the next one: OFFSET + 1.
  // Amounts and balances have up to 19 digits, more than JavaScript's numbers hold.
  console.log(stringify({ offset, id: messageId, type, data: parse(message.content.toString()) }));
};
await channel.consume("payments.events.log", print, { arguments: { "x-stream-offset": offset() } });
if (idle) {
  const timer = setInterval(async () => {
    if (Date.now() - heard < idle * 1000) return;
    clearInterval(timer);
    await connection.close();
  }, 100);
}
