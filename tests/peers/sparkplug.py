"""A Sparkplug host for the tests: says what it hears and publishes what it is told to, line by line.

    python tests/peers/sparkplug.py PORT

Decodes with pysparkplug, whose protobuf code is made from the definition of Eclipse Tahu, so that
nothing of what Camshaft's own code believes about the format is in here. Each message on `spBv1.0/#`
becomes a line of JSON on stdout, in the order in which they come. Each line of JSON on stdin is
published: `{"topic", "metrics": [...]}` as a command, `{"topic", "raw": [...]}` as one whose metrics
have these fields of the wire and no others, `{"topic", "text", "retain"}` as it is, `{"topic",
"hex"}` as these bytes.
"""

import json
import sys
import time

import paho.mqtt.client as mqtt
from pysparkplug import DataType, Metric, NBirth, DBirth, NCmd, NData, DData, NDeath
from pysparkplug import _protobuf as protobuf

BIRTHS = {"NBIRTH": NBirth, "DBIRTH": DBirth}
DATA = {"NDATA": NData, "DDATA": DData}

# The latest birth of each node and device, without which data have no names and types.
births = {}


def tell(line):
    print(json.dumps(line), flush=True)


def quality(metric):
    properties = dict(zip(metric.properties.keys, metric.properties.values))
    value = properties.get("Quality")
    return None if value is None else {"type": value.type, "value": value.int_value}


def decode(verb, owner, raw):
    if verb in BIRTHS:
        births[owner] = payload = BIRTHS[verb].decode(raw)
    elif verb in DATA:
        payload = DATA[verb].decode(raw, birth=births[owner])
    elif verb == "NDEATH":
        payload = NDeath.decode(raw)
    else:
        return None
    encoded, raw = raw, protobuf.Payload.FromString(raw)
    decoded = [payload.bd_seq_metric] if verb == "NDEATH" else payload.metrics
    metrics = [
        {
            "name": metric.name,
            "type": metric.datatype.name,
            "value": metric.value,
            "is_null": metric.is_null,
            "timestamp": metric.timestamp,
            "quality": quality(plain),
            # As the wire has them, without what the birth adds.
            "wire_name": plain.name if plain.HasField("name") else None,
            "wire_type": plain.datatype if plain.HasField("datatype") else None,
            "alias": plain.alias if plain.HasField("alias") else None,
        }
        for metric, plain in zip(decoded, raw.metrics, strict=True)
    ]
    seq = raw.seq if raw.HasField("seq") else None
    return {"timestamp": raw.timestamp, "seq": seq, "metrics": metrics, "hex": encoded.hex()}


def on_message(client, userdata, message):
    _, group, verb, *owner = message.topic.split("/")
    line = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
    try:
        line["payload"] = decode(verb, (group, *owner), message.payload)
    except Exception as error:
        line["error"] = repr(error)
    tell(line)


def command(metrics):
    now = int(time.time() * 1000)
    all_of_it = [
        Metric(
            timestamp=metric.get("timestamp", now),
            name=metric.get("name"),
            alias=metric.get("alias"),
            datatype=DataType[metric["type"]],
            value=metric["value"],
        )
        for metric in metrics
    ]
    return NCmd(timestamp=now, metrics=tuple(all_of_it)).encode(include_dtypes=True)


def raw_command(metrics):
    metrics = [protobuf.Metric(**metric) for metric in metrics]
    return protobuf.Payload(timestamp=int(time.time() * 1000), metrics=metrics).SerializeToString()


def main():
    client = mqtt.Client(client_id="host")
    client.on_connect = lambda *_: client.subscribe("spBv1.0/#", qos=1)
    client.on_subscribe = lambda *_: tell({"ready": True})
    client.on_message = on_message
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_start()
    for line in sys.stdin:
        said = json.loads(line)
        if "metrics" in said:
            payload = command(said["metrics"])
        elif "raw" in said:
            payload = raw_command(said["raw"])
        else:
            payload = bytes.fromhex(said["hex"]) if "hex" in said else said["text"]
        client.publish(said["topic"], payload, retain=said.get("retain", False))
    client.loop_stop()


main()
