#!/usr/bin/env python3
"""Prints the events that wait in a queue, read by the CloudEvents SDK.

    pip install -r requirements.txt
    SETTLED_AMQP_URI=amqp://… ./subscribe.py QUEUE
"""

import json
import os
import sys

import pika
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.formats.json import JSONFormat

BATCH = "application/cloudevents-batch+json"


def events(properties, body: bytes) -> list:
    if properties.content_type == BATCH:
        return [JSONFormat().read(None, json.dumps(event)) for event in json.loads(body)]
    headers = properties.headers
    if "ce-id" in headers:  # events.header_prefix = "ce-"
        return [rabbitmq.from_rabbitmq_event(rabbitmq.RabbitMQMessage(headers, properties.content_type, body))]
    message = amqp.AMQPMessage({"content-type": properties.content_type}, headers, body)
    return [amqp.from_amqp_event(message)]


connection = pika.BlockingConnection(pika.URLParameters(os.environ["SETTLED_AMQP_URI"]))
channel = connection.channel()
while True:
    method, properties, body = channel.basic_get(sys.argv[1])
    if method is None:
        break
    for event in events(properties, body):
        # Drop repetitions by source and id.
        print(json.dumps({
            "source": event.get_source(), "id": event.get_id(), "type": event.get_type(),
            "subject": event.get_subject(), "time": event.get_time().isoformat(), "data": event.get_data()}))
    channel.basic_ack(method.delivery_tag)
connection.close()
