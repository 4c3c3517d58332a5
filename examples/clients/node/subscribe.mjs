#!/usr/bin/env node
// Prints the events that wait in a queue, read by the CloudEvents SDK.
//
//     npm install
//     SETTLED_AMQP_URI=amqp://… ./subscribe.mjs QUEUE

import amqp from "amqplib";
import { HTTP } from "cloudevents";
import { stringify } from "lossless-json";

// Amounts and balances have up to 19 digits: the SDK reads those that JavaScript's numbers can't hold as BigInt.
process.env.CE_USE_BIG_INT = "true";

// The SDK has no binding for AMQP. Its binding for HTTP has the same modes; its headers begin with `ce-`.
const read = ({ properties, content }) => {
  const headers = { "content-type": properties.contentType };
  for (const [name, value] of Object.entries(properties.headers)) {
    headers[name.replace(/^cloudEvents[:_]/, "ce-")] = value;
  }
  return [HTTP.toEvent({ headers, body: content.toString() })].flat();
};

const connection = await amqp.connect(process.env.SETTLED_AMQP_URI);
const channel = await connection.createChannel();
for (let message; (message = await channel.get(process.argv[2])); channel.ack(message)) {
  for (const event of read(message)) {
    event.validate();
    const { source, id, type, subject, time, data } = event;
    // Drop repetitions by source and id.
    console.log(stringify({ source, id, type, subject, time, data }));
  }
}
await connection.close();
