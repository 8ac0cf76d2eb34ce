"""A serial line made of two terminals."""

import os
import threading
import tty


def terminals():
    """Two terminals, what is written to one being read from the other."""
    near, near_end = os.openpty()
    far, far_end = os.openpty()
    for end in (near, near_end, far, far_end):
        tty.setraw(end)

    def carry(source, target):
        while True:
            os.write(target, os.read(source, 256))

    threading.Thread(target=carry, args=(near, far), daemon=True).start()
    threading.Thread(target=carry, args=(far, near), daemon=True).start()
    return os.ttyname(near_end), os.ttyname(far_end)
