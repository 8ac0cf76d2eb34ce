"""A tank as a Modbus unit made of pymodbus: a controller has to keep its level.

    tank.py tcp PORT     Modbus TCP
    tank.py rtu          a serial line of two terminals; prints the path of the free end

Unit 1: input register 0 is the level in hundredths of a percent, holding register 0 the inflow valve
in thousandths. Time runs ten times as fast as elsewhere. Each line on standard input is answered
with level and valve.
"""

import asyncio
import json
import logging
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from terminals import terminals

STEP_S = 0.005
SPEED = 10
DRAIN, INFLOW = 1.0, 5.0  # percent a second, at a full tank and an open valve


async def valve(server):
    return (await server.async_getValues(1, 3, 0, 1))[0]


async def live(server, tank):
    while True:
        await asyncio.sleep(STEP_S)
        flow = INFLOW * await valve(server) / 1000 - DRAIN * (tank["level"] / 100) ** 0.5
        tank["level"] = min(100.0, max(0.0, tank["level"] + flow * STEP_S * SPEED))
        await server.async_setValues(1, 4, 0, [round(tank["level"] * 100)])


async def main(kind, *port):
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    blocks = [[SimData(0, values=[False] * 16, datatype=DataType.BITS)] for _ in range(2)]
    blocks += [[SimData(0, values=[0] * 8, datatype=DataType.REGISTERS)] for _ in range(2)]
    unit = SimDevice(1, simdata=tuple(blocks))
    path = None
    if kind == "rtu":
        path, own = terminals()
        server = ModbusSerialServer([unit], port=own, baudrate=115200, framer=FramerType.RTU)
    else:
        server = ModbusTcpServer([unit], address=("127.0.0.1", int(port[0])))
    await server.serve_forever(background=True)
    tank = {"level": 30.0}
    living = asyncio.create_task(live(server, tank))
    print(json.dumps(path), flush=True)
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while await lines.readline():
        print(json.dumps([tank["level"], await valve(server)]), flush=True)
    living.cancel()


asyncio.run(main(*sys.argv[1:]))
