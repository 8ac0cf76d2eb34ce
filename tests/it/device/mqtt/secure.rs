//! TLS and passwords, with authorities made for the test.

use std::path::Path;
use std::process::Command;

use camshaft::process::image::Quality;

use super::mosquitto::Mosquitto;
use super::{command, connected, session, toml};
use crate::device::{Bench, reports};

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// An authority `NAME.pem`, and what it has signed: a server at 127.0.0.1 and a client.
fn authority(folder: &Path, name: &str) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(folder, &format!("{new} -subj /CN={name} -keyout {name}.key -out {name}.pem"));
    for (who, extension) in
        [("server", "subjectAltName=IP:127.0.0.1"), ("client", "keyUsage=digitalSignature")]
    {
        let file = format!("{name}-{who}");
        let signed = format!("-CA {name}.pem -CAkey {name}.key -addext basicConstraints=CA:FALSE");
        let subject = format!("-subj /CN={who} -addext {extension}");
        openssl(folder, &format!("{new} {signed} {subject} -keyout {file}.key -out {file}.pem"));
    }
}

/// A broker that wants certificates and gives one.
fn broker() -> Mosquitto {
    Mosquitto::with(|folder| {
        authority(folder, "good");
        authority(folder, "bad");
        let file = |name: &str| folder.join(name).display().to_string();
        format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nallow_anonymous true",
            file("good.pem"),
            file("good-server.pem"),
            file("good-server.key"),
        )
    })
}

fn bench(broker: &Mosquitto, ca: &str, client: &str) -> Bench {
    let file = |name: &str| format!("{:?}", broker.path(name));
    let (cert, key) = (file(&format!("{client}.pem")), file(&format!("{client}.key")));
    let keys = format!("ca = {}\ncert = {cert}\nkey = {key}", file(ca));
    let toml = toml(broker.port, &keys, &command("speed", "f64", "1s", ""));
    Bench::open(&toml.replace("mqtt://", "mqtts://"))
}

#[test]
#[ignore = "needs mosquitto and openssl"]
fn a_broker_with_the_right_certificate_is_believed() {
    let broker = broker();
    connected(&mut bench(&broker, "good.pem", "good-client"));
}

#[test]
#[ignore = "needs mosquitto and openssl"]
fn wrong_certificates_are_told_and_tried_again() {
    let broker = broker();
    let mut stranger = bench(&broker, "bad.pem", "good-client");
    stranger.until("the broker is not believed", |bench| {
        session(bench).state.starts_with("TLS: ") && session(bench).state.contains("UnknownIssuer")
    });
    assert_eq!(stranger.input("speed").1, Quality::Waiting);
    let mut liar = bench(&broker, "good.pem", "bad-client");
    liar.until("we are not believed", |bench| session(bench).state.contains("alert"));
    // The right files, put there while it tries: they count from the next connection on.
    let folder = Path::new(&broker.path("")).to_owned();
    for end in ["pem", "key"] {
        let name = |who: &str| folder.join(format!("{who}-client.{end}"));
        std::fs::copy(name("good"), name("bad")).unwrap();
    }
    std::fs::copy(folder.join("good.pem"), folder.join("bad.pem")).unwrap();
    connected(&mut liar);
    drop(liar);
    connected(&mut stranger);
}

#[test]
#[ignore = "needs mosquitto and openssl"]
fn mistakes_in_files_are_found_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), "good");
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    let check = |ca: &str, cert: &str, key: &str, expected: &str| {
        let keys = format!("ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}");
        let text = toml(8883, &keys, "").replace("mqtt://", "mqtts://");
        let found = camshaft::config::parse(&text, &folder.path().join("m.toml"));
        let found = found.err().map(|problems| problems.to_string()).unwrap_or_default();
        assert!(reports(&found, expected) && found.is_empty() == expected.is_empty(), "{found}");
    };
    let (cert, key) = ("good-client.pem", "good-client.key");
    check("good.pem", cert, key, "");
    check("none.pem", cert, key, "No such file or directory");
    check("empty.pem", cert, key, "expected certificates in PEM");
    check("good.pem", key, key, "good-client.key: no certificate");
    check("good.pem", cert, cert, "expected the private key for `cert`");
    check("good.pem", cert, "good-server.key", "expected the private key for `cert`");
}

#[test]
#[ignore = "needs mosquitto"]
fn a_password_is_the_first_line_of_its_file() {
    let broker = Mosquitto::with(|folder| {
        let file = folder.join("users");
        std::fs::write(&file, "").unwrap();
        let mut passwd = Command::new("mosquitto_passwd");
        let done = passwd.arg("-b").arg(&file).args(["anna", "se cret"]).status();
        assert!(done.expect("mosquitto_passwd starts").success());
        std::fs::write(folder.join("wrong"), "secret\n").unwrap();
        format!("password_file {}\nallow_anonymous false", file.display())
    });
    let keys = format!("username = \"anna\"\npassword_file = {:?}", broker.path("wrong"));
    let mut bench = Bench::open(&toml(broker.port, &keys, ""));
    bench.until("we are refused", |bench| {
        session(bench).state == "the broker refuses this client: NotAuthorized"
    });
    std::fs::write(broker.path("wrong"), "se cret\n").unwrap();
    connected(&mut bench);
}
