//! The byte stream of a connection: a TCP stream or a serial port.
//!
//! This file opens the stream, and it can see whether the other side has closed a TCP stream.
//! `rtu.rs` and `tcp.rs` send and receive frames on the stream.

use std::io;
use std::mem::MaybeUninit;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_serial::{SerialPortBuilderExt, SerialStream};

use crate::driver::modbus::client::line::{Line, Parity, Serial, Target};
use crate::driver::tcp::dial;

/// A connection that carries bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether the other side has already closed the stream. The function does not wait, and it
    /// leaves all received bytes in the stream.
    fn is_closed(&self) -> bool;
}

impl Stream for TcpStream {
    fn is_closed(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(self).peek(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl Stream for SerialStream {
    /// Returns false, because no other side can close a serial port.
    fn is_closed(&self) -> bool {
        false
    }
}

/// Connects over TCP, or opens the serial port.
///
/// # Errors
/// When the connection fails or takes longer than `connect_timeout`, or when the serial port
/// cannot be opened.
pub(super) async fn open(line: &Line) -> io::Result<Box<dyn Stream>> {
    match &line.target {
        Target::Rtu(path) => {
            let path = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(Box::new(open_serial(path, line.serial.unwrap_or_default())?))
        }
        Target::Tcp(host, port) | Target::RtuOverTcp(host, port) => {
            Ok(Box::new(dial(host, *port, line.connect_timeout).await?))
        }
    }
}

/// Opens a serial port with these settings, with 8 data bits and without flow control.
fn open_serial(path: &str, serial: Serial) -> io::Result<SerialStream> {
    use tokio_serial::{DataBits, FlowControl, StopBits};
    let builder = tokio_serial::new(path, serial.baud)
        .data_bits(DataBits::Eight)
        .flow_control(FlowControl::None)
        .stop_bits(if serial.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .parity(match serial.parity {
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
            Parity::None => tokio_serial::Parity::None,
        });
    Ok(builder.open_native_async()?)
}
