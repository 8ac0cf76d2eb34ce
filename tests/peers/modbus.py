"""A Modbus server made of pymodbus, told by lines of JSON what to hold and how to behave.

    modbus.py tcp PORT        Modbus TCP
    modbus.py rtu+tcp PORT    frames of the serial line over TCP
    modbus.py rtu             a serial line of two terminals; prints the path of the free end

It serves the units 1 and 2. Each has holding registers, input registers, coils and discrete inputs
from 0 to 999; what is beyond does not exist. Every line on standard input is an order and is
answered with one line: see `obey`.
"""

import asyncio
import functools
import json
import logging
import sys

from pymodbus import FramerType
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from terminals import terminals

FUNCTIONS = {"coil": (1, 15), "discrete": (2, 15), "holding": (3, 16), "input": (4, 16)}

# What each unit does instead of answering: refuse with a code, or wait so many seconds.
moods = {1: {}, 2: {}}
# Every request, as unit, function code, address, count and the values of a write.
asked = []


async def action(unit, function, _start, address, count, _registers, values):
    """What pymodbus calls before it answers a request."""
    asked.append([unit, function, address, count, list(values) if values else None])
    mood = moods[unit]
    if mood.get("wait"):
        await asyncio.sleep(mood["wait"])
    return ExcCodes(mood["refuse"]) if mood.get("refuse") else None


def device(unit):
    """A unit whose registers begin as their own address."""
    registers = [SimData(0, values=list(range(1000)), datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[False] * 1008, datatype=DataType.BITS)]
    blocks = (bits, list(bits), registers, list(registers))
    return SimDevice(unit, simdata=blocks, action=functools.partial(action, unit))


async def obey(server, order):
    """Does what one line says, and gives what it is answered with."""
    match order:
        case {"encode": value, "type": kind, "order": word_order}:
            kind = ModbusClientMixin.DATATYPE[kind]
            return ModbusClientMixin.convert_to_registers(value, kind, word_order=word_order)
        case {"mood": mood, "unit": unit}:
            moods[unit] = mood
            return None
        case {"asked": _}:
            return asked
    # Orders are obeyed whatever the mood, and are not requests.
    mood, moods[order["unit"]] = moods[order["unit"]], {}
    before = len(asked)
    try:
        match order:
            case {"set": values, "unit": unit, "table": table, "address": address}:
                # What cannot be written over the wire can be written here.
                function = {"discrete": 2, "input": 4}.get(table, FUNCTIONS[table][1])
                return await server.async_setValues(unit, function, address, values)
            case {"get": count, "unit": unit, "table": table, "address": address}:
                return await server.async_getValues(unit, FUNCTIONS[table][0], address, count)
    finally:
        del asked[before:]
        moods[order["unit"]] = mood
    raise ValueError(order)


async def main(kind, *port):
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    devices = [device(1), device(2)]
    if kind == "rtu":
        path, own = terminals()
        server = ModbusSerialServer(devices, port=own, baudrate=19200, framer=FramerType.RTU)
    else:
        path = None
        framer = FramerType.SOCKET if kind == "tcp" else FramerType.RTU
        server = ModbusTcpServer(devices, address=("127.0.0.1", int(port[0])), framer=framer)
    await server.serve_forever(background=True)
    print(json.dumps(path), flush=True)
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await lines.readline():
        print(json.dumps(await obey(server, json.loads(line))), flush=True)


asyncio.run(main(*sys.argv[1:]))
