//! Requests and replies as bytes: on the client's wire, which is Modbus TCP or the serial line, and
//! to the server and back, which is Modbus TCP.
//!
//! What becomes of them on the way is in `fate.rs` and `../proxy.rs`.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::Wire;

/// A request as it came.
pub(super) struct Request {
    /// The first four bytes over TCP.
    head: [u8; 4],
    pub(super) unit: u8,
    /// From the function code on.
    pub(super) pdu: Vec<u8>,
}

impl Request {
    /// The next one that the client sends.
    pub(super) async fn read(wire: Wire, from: &mut OwnedReadHalf) -> io::Result<Self> {
        let mut head = [0; 4];
        if wire == Wire::Tcp {
            from.read_exact(&mut head).await?;
            let length = usize::from(from.read_u16().await?);
            let unit = from.read_u8().await?;
            let mut pdu = vec![0; length - 1];
            from.read_exact(&mut pdu).await?;
            return Ok(Self { head, unit, pdu });
        }
        let unit = from.read_u8().await?;
        let mut pdu = vec![0; 5];
        from.read_exact(&mut pdu).await?;
        if pdu[0] > 6 {
            let bytes = from.read_u8().await?;
            pdu.push(bytes);
            pdu.resize(6 + usize::from(bytes), 0);
            from.read_exact(&mut pdu[6..]).await?;
        }
        let mut checksum = [0; 2];
        from.read_exact(&mut checksum).await?;
        Ok(Self { head, unit, pdu })
    }

    /// Has the server do it, and gives what it replies from the function code on.
    pub(super) async fn exchange(&self, stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let [a, b] = (self.pdu.len() as u16 + 1).to_be_bytes();
        let frame = [&[0x77, 0x77, 0, 0, a, b, self.unit], &self.pdu[..]].concat();
        stream.write_all(&frame).await?;
        let mut header = [0; 7];
        stream.read_exact(&mut header).await?;
        assert_eq!(header[..4], [0x77, 0x77, 0, 0], "the server itself is sound");
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]])) - 1];
        stream.read_exact(&mut pdu).await?;
        Ok(pdu)
    }

    /// A reply as the client's wire has it.
    pub(super) fn reply(&self, wire: Wire, unit: u8, pdu: &[u8]) -> Vec<u8> {
        if wire == Wire::Tcp {
            let length = (pdu.len() as u16 + 1).to_be_bytes();
            return [&self.head[..], &length, &[unit], pdu].concat();
        }
        let mut frame = [&[unit], pdu].concat();
        frame.extend(crc(&frame));
        frame
    }
}

/// The checksum of the serial line, written down a second time so that a mistake in one shows.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let is_odd = crc & 1 == 1;
            crc >>= 1;
            if is_odd {
                crc ^= 0xa001;
            }
        }
    }
    crc.to_le_bytes()
}
