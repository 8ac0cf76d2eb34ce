"""A Modbus client that Camshaft's tests talk through: pymodbus, one JSON request a line.

{"connect": PORT} opens a connection, {"call": NAME, ...} calls that function of the client with the
rest as arguments, {"close": true} closes it. `as` has the registers read as that type by pymodbus.
"""

import json
import sys

from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient

client = None


def call(name, arguments):
    kind = arguments.pop("as", None)
    order = arguments.pop("word_order", "big")
    try:
        reply = getattr(client, name)(**arguments)
    except ModbusException as why:
        return {"error": str(why)}
    if reply.isError():
        return {"exception": reply.exception_code}
    if kind:
        kind = getattr(client.DATATYPE, kind)
        return {"value": client.convert_from_registers(reply.registers, kind, word_order=order)}
    return {"registers": reply.registers, "bits": reply.bits}


for line in sys.stdin:
    request = json.loads(line)
    if "connect" in request:
        client = ModbusTcpClient("127.0.0.1", port=request["connect"], timeout=5, retries=0)
        answer = {"connected": client.connect()}
    elif "close" in request:
        client.close()
        answer = {}
    else:
        answer = call(request.pop("call"), request)
    print(json.dumps(answer), flush=True)
