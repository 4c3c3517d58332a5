#!/usr/bin/env python3
"""Opens two accounts, funds one, pays from it, and waits for what became of each.

    pip install -r requirements.txt
    SETTLED_AMQP_URI=amqp://… ./pay.py
"""

import json
import os
import sys
import time
import uuid

import pika

TASKS, EVENTS = "payments", "payments.events"
PATIENCE = 30  # seconds


def uuid7() -> str:
    """Of version 7, whose first 48 bits are the time: kind to the database's index."""
    millis = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    number = millis << 80 | 0x7 << 76 | (random >> 62 & 0xFFF) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=number))


def opening(account: str, **limits) -> dict:
    # The id comes from what is asked for, so that asking twice is asking once.
    task_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://shop.example/open/{account}"))
    return {"id": task_id, "type": "open_account", "account": account, "currency": "USD", **limits}


def transfer(debit: str, credit: str, cents: int, **more) -> dict:
    return {"id": uuid7(), "type": "transfer", "debit_account": debit, "credit_account": credit,
            "amount": cents, "currency": "USD", **more}


connection = pika.BlockingConnection(pika.URLParameters(os.environ["SETTLED_AMQP_URI"]))
channel = connection.channel()
channel.confirm_delivery()  # from here on publishing waits for the broker's confirm

replies = channel.queue_declare("", exclusive=True).method.queue
events = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(events, EVENTS, "payment.*")


def publish(task: dict) -> None:
    """Raises if the broker didn't store it. Then publish the same again: the id makes it safe."""
    properties = pika.BasicProperties(
        content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent,
        message_id=task["id"], correlation_id=task["id"], reply_to=replies, app_id="shop")
    channel.basic_publish(TASKS, f"task.{task['type']}", json.dumps(task), properties, mandatory=True)


# No waiting in between: a later task sees what an earlier one has done.
tasks = [
    opening("world", min_balance="none"),  # no lower limit: money comes from here
    opening("customer:alice"),
    transfer("world", "customer:alice", 10_000, reference="top-up-7"),
    transfer("customer:alice", "world", 1_250, reference="order-123", metadata={"channel": "web"}),
    transfer("customer:alice", "world", 1_000_000_000_000, reference="too-much"),
]
for task in tasks:
    publish(task)

# A reply comes for each of these tasks, an event for each transfer (and other people's).
wanted = {("reply", task["id"]) for task in tasks}
wanted |= {("event", task["id"]) for task in tasks if task["type"] == "transfer"}


def take(kind):
    def on_message(channel, method, properties, body):
        outcome = json.loads(body)
        heard = (kind, properties.correlation_id)  # a dead letter may have no id of its own
        if heard in wanted:  # at least once: the second time it is known
            wanted.remove(heard)
            print(json.dumps({kind: outcome}), flush=True)
        channel.basic_ack(method.delivery_tag)
    return on_message


channel.basic_consume(replies, take("reply"))
channel.basic_consume(events, take("event"))
deadline = time.monotonic() + PATIENCE
while wanted and time.monotonic() < deadline:
    connection.process_data_events(time_limit=1)
connection.close()
if wanted:
    sys.exit(f"no answer within {PATIENCE} s to {wanted}: publish the same again, or look it up")
