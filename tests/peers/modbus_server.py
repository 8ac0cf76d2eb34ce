"""A Modbus server that Camshaft's tests talk to: pymodbus, whose registers prove what they are.

Below address 1000, registers are numbers of 64 bits, four registers each from an address that is a
multiple of 4: function code (4 bits), unit (4), address (16), and the instant of the reading in
microseconds of CLOCK_MONOTONIC (40). All of one request have the same instant. From 1000 on they
keep what was written. Prints its port; the arguments are the units.
"""

import asyncio
import functools
import sys
import time

from pymodbus import pymodbus_apply_logging_config
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

PROVEN = 1000


async def act(unit, function, start, address, count, registers, values):
    if values is not None or address >= PROVEN:
        return None
    stamp = time.monotonic_ns() // 1000 & (1 << 40) - 1
    for first in range(address & ~3, address + count, 4):
        proof = function << 60 | unit << 56 | first << 40 | stamp
        for n in range(4):
            registers[first - start + n] = proof >> 16 * (3 - n) & 0xFFFF
    return None


async def main():
    def device(unit):
        data = [SimData(0, count=2000, values=0, datatype=DataType.REGISTERS)]
        return SimDevice(unit, simdata=data, action=functools.partial(act, unit))

    devices = [device(int(unit)) for unit in sys.argv[1:]]
    server = ModbusTcpServer(devices, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    # Ends with whoever has started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


# Its log would tell of every absent unit that somebody asks for.
pymodbus_apply_logging_config("CRITICAL")
asyncio.run(main())
