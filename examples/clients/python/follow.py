#!/usr/bin/env python3
"""Keeps the balances of all accounts in SQLite, from the stream of events, and prints each event that it applies.

    pip install -r requirements.txt
    SETTLED_AMQP_URI=amqp://… ./follow.py FILE [--since TIME] [--idle SECONDS]

A new FILE begins at the beginning of the stream, or at TIME (ISO 8601); one that is there goes on behind its last event.
"""

import argparse
import json
import os
import sqlite3
from datetime import datetime

import pika

STREAM = "payments.events.log"

arguments = argparse.ArgumentParser()
arguments.add_argument("file")
arguments.add_argument("--since", type=datetime.fromisoformat)
arguments.add_argument("--idle", type=float, help="end after so many seconds without an event")
arguments = arguments.parse_args()

# The offset is kept beside the balances: one transaction changes both, so each event is applied once.
model = sqlite3.connect(arguments.file)
model.executescript("""
    CREATE TABLE IF NOT EXISTS balance (account TEXT PRIMARY KEY, posted INTEGER, version INTEGER);
    CREATE TABLE IF NOT EXISTS place (is_one INTEGER PRIMARY KEY, applied INTEGER);
""")
place = model.execute("SELECT applied FROM place").fetchone()
begin = place[0] + 1 if place else arguments.since or "first"

connection = pika.BlockingConnection(pika.URLParameters(os.environ["SETTLED_AMQP_URI"]))
channel = connection.channel()
channel.basic_qos(prefetch_count=500)  # a stream asks for a limit
deliveries = channel.consume(
    STREAM, arguments={"x-stream-offset": begin}, inactivity_timeout=arguments.idle)
for method, properties, body in deliveries:
    if method is None:
        break
    offset = properties.headers["x-stream-offset"]
    if place and offset <= place[0]:
        continue  # The broker begins with whole chunks.
    event = json.loads(body)
    with model:
        for balance in event.get("balances", []):
            # A version that is lower is older: so it doesn't matter if the reading began in the middle.
            model.execute(
                """INSERT INTO balance VALUES (:account, :posted, :version) ON CONFLICT (account) DO UPDATE
                   SET posted = excluded.posted, version = excluded.version WHERE excluded.version >= version""",
                balance)
        model.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (offset,))
    print(json.dumps({"offset": offset, "id": properties.message_id, "type": properties.type, "data": event}))
    channel.basic_ack(method.delivery_tag)  # asks for more: a stream keeps what is acknowledged
connection.close()
