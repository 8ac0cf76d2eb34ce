//! Against pymodbus: over TCP, on a serial line made of two terminals, and over TCP as on a line.
