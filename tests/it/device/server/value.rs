//! What the server answers: nothing that is bad looks good, and what is refused changes nothing.
//!
//! The client here asks byte by byte. That others understand the same is in `peer.rs`.

use std::time::Duration;

use camshaft::process::image::{Quality, Value};

use super::{Plant, Raw, SCADA, SOUND, open};
use crate::device::Bench;

#[test]
fn what_is_bad_never_looks_good() {
    let (bench, port) = open(SCADA);
    let mut raw = Raw::connect(port);
    let float = |value: f32| {
        let bits = value.to_bits();
        vec![(bits >> 16) as u16, bits as u16]
    };
    // Before the first cycle nothing is known.
    assert_eq!(raw.registers(4, 0, 2), Err(4));
    assert_eq!(raw.registers(4, 30, 2), Err(4), "there is nothing to keep");
    assert_eq!(raw.registers(4, 32, 1), Ok(vec![2]));
    let mut check = |plant: Plant, plain: Result<(), u8>, kept: Result<f32, u8>, class: u16| {
        plant.show(&bench);
        let quality = plant.level.1;
        let expected = plain.map(|()| float(plant.level.0 as f32));
        assert_eq!(raw.registers(4, 0, 2), expected, "{quality:?}");
        let kept = kept.map(|level| [float(level), vec![class]].concat());
        assert_eq!(raw.registers(4, 30, 3), kept, "{quality:?}");
        let instead = if plain.is_ok() { plant.level.0 as i16 } else { -1 };
        assert_eq!(raw.registers(4, 33, 1), Ok(vec![instead as u16]), "{quality:?}");
        let instead = if plain.is_ok() { plant.level.0 as f32 } else { f32::NAN };
        assert_eq!(raw.registers(4, 34, 2), Ok(float(instead)), "{quality:?}");
        // Whoever reads more than one value gets none of them.
        assert_eq!(raw.registers(4, 0, 20).is_ok(), plain.is_ok());
    };
    let level = |quality| Plant { level: (17.0, quality), ..SOUND };
    check(level(Quality::Good), Ok(()), Ok(17.0), 0);
    check(level(Quality::Forced), Ok(()), Ok(17.0), 0);
    check(level(Quality::Stale), Err(4), Ok(17.0), 1);
    check(level(Quality::Substitute), Err(4), Ok(17.0), 1);
    check(level(Quality::NoComm), Err(4), Ok(17.0), 2);
    check(level(Quality::Sensor), Err(4), Ok(17.0), 2);
    check(level(Quality::Waiting), Err(4), Err(4), 2);
    check(Plant { age: Duration::from_secs(3), ..SOUND }, Err(4), Ok(42.5), 2);
    check(SOUND, Ok(()), Ok(42.5), 0);
    // A bit has a companion too: 1 while it is good.
    let bits = |raw: &mut Raw| raw.ask(&[2, 0, 1, 0, 2]).unwrap();
    assert_eq!(bits(&mut raw), [2, 1, 0b11]);
    Plant { door: (true, Quality::Stale), ..SOUND }.show(&bench);
    assert_eq!(bits(&mut raw), [2, 1, 0b01]);
    Plant { door: (true, Quality::NoComm), ..SOUND }.show(&bench);
    assert_eq!(bits(&mut raw), [0x82, 4]);
    assert_eq!(raw.registers(4, 40, 1), Err(4), "nobody has that name");
}

#[test]
fn what_is_refused_changes_nothing() {
    let (mut bench, port) = open(SCADA);
    let mut raw = Raw::connect(port);
    assert_eq!(raw.write(100, &[10, 0x3f80, 0]), Ok(()));
    let good = |bench: &mut Bench| {
        bench.input("scada.setpoint") == (Value::Real(1.0), Quality::Good)
            && bench.input("scada.ramp") == (Value::Real(1.0), Quality::Good)
    };
    bench.until("both are taken at once", good);
    let mut refuse = |address, registers: &[u16], expected| {
        assert_eq!(raw.write(address, registers), Err(expected), "{address} {registers:?}");
    };
    refuse(100, &[1001], 3);
    refuse(100, &[11, 0x4000, 0], 3); // the setpoint fits, the ramp does not
    refuse(101, &[0x7fc0, 0], 3); // not a number
    refuse(101, &[0x3f80], 2); // half a number
    refuse(102, &[0], 2);
    refuse(99, &[1, 2], 2);
    refuse(103, &[1, 2, 0], 2); // the third is a companion
    refuse(50, &[1], 2); // that is only shown
    refuse(106, &[2], 3); // a bit that nobody takes
    let coils = raw.ask(&[15, 0, 0, 0, 3, 1, 7]);
    assert_eq!(coils, Some(vec![0x8f, 2]));
    assert_eq!(raw.ask(&[5, 0, 100, 0xff, 0]), Some(vec![0x85, 2]));
    assert_eq!(raw.ask(&[5, 0, 0, 0, 1]), Some(vec![0x85, 3]));
    assert_eq!(raw.ask(&[43, 14, 1, 0]), Some(vec![0xab, 1]));
    raw.send(2, &[3, 0, 100, 0, 1]);
    assert_eq!(raw.answer(), Some(vec![0x83, 0x0b]), "another unit");
    bench.pass(Duration::from_millis(50));
    assert!(good(&mut bench));
    assert_eq!(bench.input("scada.start"), (Value::Bool(false), Quality::Waiting));
    assert_eq!(raw.registers(3, 100, 3), Ok(vec![10, 0x3f80, 0]));
    assert_eq!(raw.registers(3, 106, 1), Err(4));
    assert_eq!(raw.ask(&[6, 0, 106, 0, 0x11]), Some(vec![6, 0, 106, 0, 0x11]));
    bench.until("bits of a register are commands", |bench| {
        bench.input("scada.auto") == (Value::Bool(true), Quality::Good)
            && bench.input("scada.reset") == (Value::Bool(true), Quality::Good)
    });
}
