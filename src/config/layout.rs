//! Chooses the address of each point in the process image.
//!
//! First, the points with an address in the file get this address. After that, each point without
//! an address gets the next free address in the window of its device. The window is the range of
//! bytes that a device has in an image. An automatic address is a multiple of the size of the
//! point. Eight bools share one byte.
//!
//! ```text
//! byte   0        1        2        3        4
//!        bbbbbbbb (free)   u16----- -------- f32-----...    b: a bool
//! ```
//!
//! The type, the scaling and the safe value of a point were already checked in `points.rs`.

use std::ops::Range;

use super::file::{DeviceFile, Maybe, PointFile, WindowFile};
use super::points::understand;
use super::problem::{ProblemReport, Said};
use super::word::Address;
use crate::process::image::{Direction, MAX_IMAGE_BYTES, MAX_POINTS, Point, PointKind};

/// All points with their addresses. If a problem was reported, the contents must not be used.
pub(super) struct Layout {
    pub(super) points: Vec<Point>,
    /// Sizes in bytes of the input image and of the output image.
    pub(super) image_bytes: [usize; 2],
}

/// A point with its entry in the file.
struct Item<'f, 't> {
    file: &'f PointFile<'t>,
    point: Point,
    place: Placement,
}

/// How a point gets its address.
#[derive(PartialEq)]
enum Placement {
    /// The file gives no address, so the layout chooses one.
    Automatic,
    /// The file gives an address, and the point gets this address.
    Fixed,
    /// The file gives an address that the point cannot get, or that was not checked yet.
    Refused,
}

/// Chooses the addresses of all points.
pub(super) fn place(devices: &[DeviceFile<'_>], report: &ProblemReport<'_>) -> Layout {
    let mut items = Vec::new();
    let all = devices
        .iter()
        .enumerate()
        .flat_map(|(device, file)| file.points.iter().map(move |point| (device, point)));
    for (device, file) in all.take(MAX_POINTS) {
        if let Some(point) = understand(file, device, report) {
            let place =
                if file.address.is_some() { Placement::Refused } else { Placement::Automatic };
            items.push(Item { file, point, place });
        }
    }
    let image_bytes = [Direction::In, Direction::Out]
        .map(|direction| place_in(direction, devices, &mut items, report));
    Layout { points: items.into_iter().map(|item| item.point).collect(), image_bytes }
}

/// Chooses the addresses of all points of one image. Returns the size of that image in bytes.
fn place_in(
    direction: Direction,
    devices: &[DeviceFile<'_>],
    items: &mut [Item<'_, '_>],
    report: &ProblemReport<'_>,
) -> usize {
    // The points with an address are placed first, for all devices. No automatic address can then
    // occupy their bytes.
    let mut taken = Taken::default();
    for index in 0..items.len() {
        if items[index].point.direction == direction {
            place_fixed(index, items, &mut taken, report);
        }
    }
    let (mut size, mut start) = (0, 0);
    for (device, file) in devices.iter().enumerate() {
        let said = if direction == Direction::In { &file.input } else { &file.output };
        let Some(mut window) = Window::of(said, start, report) else { continue };
        let own = items
            .iter_mut()
            .filter(|item| item.point.device == device && item.point.direction == direction);
        for item in own {
            match item.place {
                Placement::Automatic => window.place_next(item, &mut taken, report),
                Placement::Fixed => window.check(item, report),
                Placement::Refused => {}
            }
        }
        start = window.end();
        size = size.max(start);
    }
    size as usize
}

/// Gives a point the address from the file. Reports an address that is outside of the image, that
/// is occupied, or that has a bit although the point is not a bool.
fn place_fixed(
    index: usize,
    items: &mut [Item<'_, '_>],
    taken: &mut Taken,
    report: &ProblemReport<'_>,
) {
    let Item { file, point, place } = &mut items[index];
    let Some(said) = &file.address else { return };
    let Address { byte, bit } = said.value;
    let found = show(said);
    if bit.is_some() && point.kind != PointKind::Bool {
        let right =
            format!("a byte address such as {byte}, because only a point of type bool has a bit");
        return report.wrong_at(said, found, right);
    }
    let most = u64::from(MAX_IMAGE_BYTES - point.kind.size());
    if byte > most {
        let right =
            format!("at most {most}, so that the point ends within the {MAX_IMAGE_BYTES} bytes");
        return report.wrong_at(said, found, format!("{right} of an image"));
    }
    // The cast is safe: the check above allows only values of 16 bits.
    point.byte = byte as u32;
    point.bit = bit.unwrap_or(0);
    if taken.is_free(point) {
        *place = Placement::Fixed;
        return taken.mark(point);
    }
    let this = &items[index].point;
    let other = items[..index]
        .iter()
        .find(|other| other.place == Placement::Fixed && overlap(&other.point, this))
        .expect("an earlier point with a fixed address occupies the bits that are not free");
    let (name, line) = (&other.point.name, other.file.place.line);
    let found = format!("{found}, which overlaps `{name}` on line {line}");
    report.wrong_at(
        said,
        found,
        "a free address, or no key `address`, so that the daemon chooses the address",
    );
}

/// Whether two points share at least one bit.
fn overlap(one: &Point, two: &Point) -> bool {
    let (a, b) = (one.bytes(), two.bytes());
    one.direction == two.direction
        && a.start < b.end
        && b.start < a.end
        && one.mask() & two.mask() != 0
}

/// Returns an address as a user writes it in the file, such as `3` or `3.1`.
fn show(address: &Said<Address>) -> String {
    match address.value {
        Address { byte, bit: Some(bit) } => format!("{byte}.{bit}"),
        Address { byte, bit: None } => byte.to_string(),
    }
}

/// The occupied bits of an image.
struct Taken(Vec<u8>);

impl Default for Taken {
    fn default() -> Self {
        Self(vec![0; MAX_IMAGE_BYTES as usize])
    }
}

impl Taken {
    /// Whether all bits of a point are free.
    fn is_free(&self, point: &Point) -> bool {
        self.0[point.bytes()].iter().all(|byte| byte & point.mask() == 0)
    }

    /// Marks all bits of a point as occupied. A bool has one bit; any other type has all bits of
    /// its bytes.
    fn mark(&mut self, point: &Point) {
        for byte in &mut self.0[point.bytes()] {
            *byte |= point.mask();
        }
    }
}

/// The bytes of one device in one image.
struct Window {
    bytes: Range<u32>,
    /// Whether the file gives the start or the size of the window. Otherwise the points of the
    /// device define the window.
    is_given: bool,
    /// Whether the file gives the size of the window. If so, the window of the next device begins
    /// at the end of this window. If not, it begins after the last point of this device.
    is_closed: bool,
    /// The first byte after all points of this device that have an address in this image.
    used: u32,
    /// For each size of a point, the byte at which the search for a free address continues. The
    /// first entry is for bools, and the others are for sizes of 1, 2, 4 and 8 bytes. An occupied
    /// address never becomes free again, so no search starts from the beginning.
    next: [u32; 5],
}

impl Window {
    /// Returns the window of one device in one image. If the file gives no start, the window begins
    /// at `after`. Returns `None` after it has reported a problem.
    fn of(file: &WindowFile, after: u32, report: &ProblemReport<'_>) -> Option<Self> {
        let limit = u64::from(MAX_IMAGE_BYTES);
        let bounded = |said: &Maybe<u64>, most: u64| match said {
            Some(said) if said.value > most => {
                let right = format!("at most {most}, the rest of an image of {limit} bytes");
                report.wrong_at(said, said.value.to_string(), right);
                None
            }
            // The cast is safe: no limit is above MAX_IMAGE_BYTES.
            Some(said) => Some(Some(said.value as u32)),
            None => Some(None),
        };
        let start = bounded(&file.start, limit)?.unwrap_or(after);
        let bytes = bounded(&file.bytes, limit - u64::from(start))?;
        Some(Self {
            bytes: start..bytes.map_or(MAX_IMAGE_BYTES, |bytes| start + bytes),
            is_given: file.start.is_some() || bytes.is_some(),
            is_closed: bytes.is_some(),
            used: start,
            next: [start; 5],
        })
    }

    /// Returns the first byte for the window of the next device.
    fn end(&self) -> u32 {
        if self.is_closed { self.bytes.end } else { self.used }
    }

    /// Returns the window as text for messages, such as `bytes 1 to 3`.
    fn show(&self) -> String {
        match self.bytes.is_empty() {
            true => format!("0 bytes at {}", self.bytes.start),
            false => format!("bytes {} to {}", self.bytes.start, self.bytes.end - 1),
        }
    }

    /// Checks that a point with an address is inside this window. The check is omitted if the file
    /// gives neither the start nor the size of the window.
    fn check(&mut self, item: &Item<'_, '_>, report: &ProblemReport<'_>) {
        let (start, end) = (item.point.byte, item.point.byte + item.point.kind.size());
        self.used = self.used.max(end);
        if self.is_given && (start < self.bytes.start || end > self.bytes.end) {
            let said = item
                .file
                .address
                .as_ref()
                .expect("a point with a fixed address has an address in the file");
            let found = format!("{}, outside the window of its device", show(said));
            report.wrong_at(said, found, format!("an address in {}", self.show()));
        }
    }

    /// Gives a point the next free address in this window. Reports a window without a free address.
    fn place_next(
        &mut self,
        item: &mut Item<'_, '_>,
        taken: &mut Taken,
        report: &ProblemReport<'_>,
    ) {
        let point = &mut item.point;
        let size = point.kind.size();
        let class = match point.kind {
            PointKind::Bool => 0,
            _ => 1 + size.trailing_zeros() as usize,
        };
        point.byte = self.next[class].next_multiple_of(size);
        while point.byte + size <= self.bytes.end {
            for bit in 0..if point.kind == PointKind::Bool { 8 } else { 1 } {
                point.bit = bit;
                if taken.is_free(point) {
                    taken.mark(point);
                    self.next[class] = point.byte;
                    self.used = self.used.max(point.byte + size);
                    return;
                }
            }
            point.byte += size;
        }
        self.next[class] = self.bytes.end;
        let found = format!("no free address in {} of the device", self.show());
        let right = "a key `address` for this point, fewer points, or more bytes for the device";
        report.wrong(item.file.place.line, &item.file.place.key, found, right);
    }
}
