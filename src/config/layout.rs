//! Where each point lies: first the addresses from the file, then the next free place for each
//! other point.
//!
//! An automatic place is inside the window of its device and naturally aligned; bools share bytes.
//! Type, scaling and safe value of a point were decided in `points.rs`.

use std::ops::Range;

use super::file::{DeviceFile, Maybe, PointFile, WindowFile};
use super::points::understand;
use super::problem::{Report, Said};
use super::word::Address;
use crate::process::image::{Direction, Kind, MAX_IMAGE_BYTES, MAX_POINTS, Point};

/// All points in their places. Meaningless once a problem was reported.
pub(super) struct Layout {
    pub(super) points: Vec<Point>,
    /// Bytes of the input image and of the output image.
    pub(super) image_bytes: [usize; 2],
}

/// A point with its entry in the file.
struct Item<'f, 't> {
    file: &'f PointFile<'t>,
    point: Point,
    place: Place,
}

/// How a point gets its place.
#[derive(PartialEq)]
enum Place {
    /// The file gives no address, so the layout chooses one.
    Automatic,
    /// The file gives an address, and it is good.
    Fixed,
    /// The file gives an address, and the point cannot lie there.
    Refused,
}

/// Places all points.
pub(super) fn place(devices: &[DeviceFile<'_>], report: &Report<'_>) -> Layout {
    let mut items = Vec::new();
    let all = devices
        .iter()
        .enumerate()
        .flat_map(|(device, file)| file.points.iter().map(move |point| (device, point)));
    for (device, file) in all.take(MAX_POINTS) {
        if let Some(point) = understand(file, device, report) {
            let place = if file.address.is_some() { Place::Refused } else { Place::Automatic };
            items.push(Item { file, point, place });
        }
    }
    let image_bytes = [Direction::In, Direction::Out]
        .map(|direction| place_in(direction, devices, &mut items, report));
    Layout { points: items.into_iter().map(|item| item.point).collect(), image_bytes }
}

/// Places all points of one image; returns the size of that image in bytes.
fn place_in(
    direction: Direction,
    devices: &[DeviceFile<'_>],
    items: &mut [Item<'_, '_>],
    report: &Report<'_>,
) -> usize {
    // The points with an address come first, for all devices, so that no automatic place is in
    // their way.
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
                Place::Automatic => window.place_next(item, &mut taken, report),
                Place::Fixed => window.check(item, report),
                Place::Refused => {}
            }
        }
        start = window.end();
        size = size.max(start);
    }
    size as usize
}

/// Places a point at the address that the file gives.
fn place_fixed(index: usize, items: &mut [Item<'_, '_>], taken: &mut Taken, report: &Report<'_>) {
    let Item { file, point, place } = &mut items[index];
    let Some(said) = &file.address else { return };
    let Address { byte, bit } = said.value;
    let found = show(said);
    if bit.is_some() && point.kind != Kind::Bool {
        let right = format!("a byte address such as {byte}, because only a bool has a bit");
        return report.wrong_at(said, found, right);
    }
    let most = u64::from(MAX_IMAGE_BYTES - point.kind.size());
    if byte > most {
        let right = format!("at most {most}, so that it ends within the {MAX_IMAGE_BYTES} bytes");
        return report.wrong_at(said, found, format!("{right} of an image"));
    }
    // The cast is safe: the check above leaves 16 bits.
    point.byte = byte as u32;
    point.bit = bit.unwrap_or(0);
    if taken.is_free(point) {
        *place = Place::Fixed;
        return taken.mark(point);
    }
    let this = &items[index].point;
    let other = items[..index]
        .iter()
        .find(|other| other.place == Place::Fixed && overlap(&other.point, this))
        .expect("only fixed points before this one have taken a place");
    let (name, line) = (&other.point.name, other.file.place.line);
    let found = format!("{found}, which overlaps `{name}` on line {line}");
    report.wrong_at(said, found, "an address that is free, or none for an automatic one");
}

/// Whether two points share a bit.
fn overlap(one: &Point, two: &Point) -> bool {
    let (a, b) = (one.bytes(), two.bytes());
    one.direction == two.direction
        && a.start < b.end
        && b.start < a.end
        && one.mask() & two.mask() != 0
}

fn show(address: &Said<Address>) -> String {
    match address.value {
        Address { byte, bit: Some(bit) } => format!("{byte}.{bit}"),
        Address { byte, bit: None } => byte.to_string(),
    }
}

/// The bits of an image that are occupied.
struct Taken(Vec<u8>);

impl Default for Taken {
    fn default() -> Self {
        Self(vec![0; MAX_IMAGE_BYTES as usize])
    }
}

impl Taken {
    fn is_free(&self, point: &Point) -> bool {
        self.0[point.bytes()].iter().all(|byte| byte & point.mask() == 0)
    }

    fn mark(&mut self, point: &Point) {
        for byte in &mut self.0[point.bytes()] {
            *byte |= point.mask();
        }
    }
}

/// The bytes of one device in one image.
struct Window {
    bytes: Range<u32>,
    /// Whether the file gives the window; otherwise the points of the device make it.
    is_given: bool,
    /// Whether the window has a fixed end, even if no point reaches it.
    is_closed: bool,
    /// End of the last point so far.
    used: u32,
    /// Byte at which the search for a free place continues, for bools and for sizes of 1, 2, 4 and
    /// 8 bytes. Places are never given back, so a search need not start again.
    next: [u32; 5],
}

impl Window {
    /// The window that the file gives, or one that begins at `after`; `None` once a problem was
    /// reported.
    fn of(file: &WindowFile, after: u32, report: &Report<'_>) -> Option<Self> {
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

    /// The byte at which the next device may start.
    fn end(&self) -> u32 {
        if self.is_closed { self.bytes.end } else { self.used }
    }

    fn show(&self) -> String {
        match self.bytes.is_empty() {
            true => format!("0 bytes at {}", self.bytes.start),
            false => format!("bytes {} to {}", self.bytes.start, self.bytes.end - 1),
        }
    }

    /// Checks that a point with an address lies in this window.
    fn check(&mut self, item: &Item<'_, '_>, report: &Report<'_>) {
        let (start, end) = (item.point.byte, item.point.byte + item.point.kind.size());
        self.used = self.used.max(end);
        if self.is_given && (start < self.bytes.start || end > self.bytes.end) {
            let said = item.file.address.as_ref().expect("it was placed by its address");
            let found = format!("{}, outside its device", show(said));
            report.wrong_at(said, found, format!("an address in {}", self.show()));
        }
    }

    /// Places a point at the next free address.
    fn place_next(&mut self, item: &mut Item<'_, '_>, taken: &mut Taken, report: &Report<'_>) {
        let point = &mut item.point;
        let size = point.kind.size();
        let class = match point.kind {
            Kind::Bool => 0,
            _ => 1 + size.trailing_zeros() as usize,
        };
        point.byte = self.next[class].next_multiple_of(size);
        while point.byte + size <= self.bytes.end {
            for bit in 0..if point.kind == Kind::Bool { 8 } else { 1 } {
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
        let found = format!("no free place for it in {} of its device", self.show());
        let right = "an address of its own, fewer points, or more bytes for the device";
        report.wrong(item.file.place.line, &item.file.place.key, found, right);
    }
}
