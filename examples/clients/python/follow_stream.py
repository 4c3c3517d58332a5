#!/usr/bin/env python3
"""Prints the events of the stream, read with the stream's own protocol: the fastest way for a subscriber.

    pip install -r requirements.txt
    SETTLED_AMQP_URI=amqp://… SETTLED_STREAM_PORT=5552 ./follow_stream.py [first | OFFSET | TIME] [IDLE]

TIME is ISO 8601. Ends after IDLE seconds without an event.
"""

import asyncio
import json
import os
import sys
from datetime import datetime
from urllib.parse import unquote, urlsplit

from rstream import AMQPMessage, Consumer, ConsumerOffsetSpecification, MessageContext, OffsetType, amqp_decoder

STREAM = "payments.events.log"


def specification(begin: str) -> ConsumerOffsetSpecification:
    if begin == "first":
        return ConsumerOffsetSpecification(OffsetType.FIRST)
    if begin.isdigit():
        return ConsumerOffsetSpecification(OffsetType.OFFSET, int(begin))
    millis = int(datetime.fromisoformat(begin).timestamp() * 1000)
    return ConsumerOffsetSpecification(OffsetType.TIMESTAMP, millis)


def text(value) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def follow(begin: str, idle: float | None) -> None:
    uri, news = urlsplit(os.environ["SETTLED_AMQP_URI"]), asyncio.Event()

    async def print_event(message: AMQPMessage, context: MessageContext) -> None:
        news.set()
        # Keep the offset with what you make of the event, and begin at the next one: OFFSET + 1.
        print(json.dumps({
            "offset": context.offset, "id": text(message.properties.message_id),
            "type": text(message.properties.subject), "data": json.loads(message.body)}))

    consumer = Consumer(
        uri.hostname, int(os.environ.get("SETTLED_STREAM_PORT", 5552)),
        username=unquote(uri.username), password=unquote(uri.password), vhost=unquote(uri.path[1:]) or "/")
    await consumer.start()
    await consumer.subscribe(
        STREAM, print_event, decoder=amqp_decoder, offset_specification=specification(begin))
    while True:
        news.clear()
        try:
            await asyncio.wait_for(news.wait(), idle)
        except TimeoutError:
            break
    await consumer.close()


asyncio.run(follow(sys.argv[1] if len(sys.argv) > 1 else "first", float(sys.argv[2]) if len(sys.argv) > 2 else None))
