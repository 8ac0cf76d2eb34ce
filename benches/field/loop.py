"""What people write in place of a controller: every 10 ms register 0 of unit 1 is read and, if it has
changed, written to register 1. The port is the argument."""

import sys
import time

from pymodbus.client import ModbusTcpClient

PERIOD = 0.01

client = ModbusTcpClient("127.0.0.1", port=int(sys.argv[1]))
client.connect()
written = None
due = time.monotonic()
while True:
    value = client.read_holding_registers(0, count=1, device_id=1).registers[0]
    if value != written:
        client.write_register(1, value, device_id=1)
        written = value
    due += PERIOD
    time.sleep(max(0, due - time.monotonic()))
