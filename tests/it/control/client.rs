//! Tests of the client for the control socket, against the simulated daemon of `control.rs`.
//!
//! The client and the server must agree: data arrives as it was sent, and orders arrive as they
//! were given. A refused request must give the client the right error message.

use std::os::unix::fs::PermissionsExt;

use camshaft::control::client::Error;
use camshaft::control::server::{BindError, Socket};

use super::*;

#[tokio::test]
async fn views_arrive_as_they_were_sent() {
    let stage = Stage::set().await;
    let client = stage.client();
    let plugins = vec![tank(), blink()];
    assert_eq!(client.status().await.unwrap(), status(&plugins));
    assert_eq!(client.plugins().await.unwrap(), plugins);
    assert_eq!(client.plugin("blink").await.unwrap(), Some(blink()));
    assert_eq!(client.plugin("no/such one").await.unwrap(), None);
    assert_eq!(client.points().await.unwrap(), points());
    assert_eq!(client.vars().await.unwrap(), vars());
    assert_eq!(client.history(None, 1000).await.unwrap(), receipts());
    assert_eq!(client.history(Some("tank"), 1).await.unwrap(), receipts()[10..]);
    assert_eq!(client.history(Some("no/such one"), 1).await.unwrap(), []);
}

#[tokio::test]
async fn orders_arrive_as_they_were_given() {
    let stage = Stage::set().await;
    let client = stage.client();
    let name = || "tank".parse().unwrap();
    let injection = serde_json::json!({ "kind": "slow", "delay": "200ms" });
    client.act("tank", "hold").await.unwrap();
    client.act("tank", "release").await.unwrap();
    client.act("tank", "restart").await.unwrap();
    let hash = client.deploy("tank", "good".into()).await.unwrap();
    client.remove("tank").await.unwrap();
    client.set("tank.level", Value::Real(42.0)).await.unwrap();
    client.set_var("strange / name", Value::Int(-1)).await.unwrap();
    client.set_var("set/point", Value::Bool(true)).await.unwrap();
    client.inject("plant", &injection).await.unwrap();
    client.clear("plant").await.unwrap();
    assert_eq!(hash, format!("{:#}", ModuleHash::of(b"good")));
    let expected = [
        Request::Hold { name: name() },
        Request::Release { name: name() },
        Request::Restart { name: name() },
        Request::Deploy { name: name(), module: "good".into() },
        Request::Remove { name: name() },
        Request::Set { point: "tank.level".parse().unwrap(), value: Value::Real(42.0) },
        Request::SetVar { name: "strange / name".into(), value: Value::Int(-1) },
        Request::SetVar { name: "set/point".into(), value: Value::Bool(true) },
        Request::Inject { device: "plant".parse().unwrap(), injection },
        Request::Clear { device: "plant".parse().unwrap() },
    ];
    assert_eq!(stage.facts().orders, expected);
}

#[tokio::test]
async fn failures_keep_code_and_words() {
    let stage = Stage::set().await;
    let client = stage.client();
    let check = |result: Result<(), Error>, code: Code, message: &str| match result {
        Err(Error::Failed(failure)) => assert_eq!(failure, Failure::new(code, message)),
        other => panic!("{other:?}"),
    };
    let result = client.act("x", "hold").await;
    check(result, Code::Unknown, "there is no plugin \"x\"; there are tank, blink");
    let result = client.act("tank", "explode").await;
    let message = "there is no route /v1/plugins/tank/explode; GET /v1 lists all routes";
    check(result, Code::Unknown, message);
    let result = client.set("out.valve", Value::Int(1)).await;
    let message = "out.valve is an output; only inputs of simulated devices can be set";
    check(result, Code::Refused, message);
    let result = client.inject("plant", &serde_json::json!({ "kind": 7 })).await;
    let message = "the body must be an object such as {\"kind\":\"freeze\"}";
    check(result, Code::Invalid, message);
    let result = client.deploy("tank", "".into()).await.map(drop);
    check(result, Code::Invalid, "the body is empty; send the bytes of the module as the body");
    let result = client.deploy("../tank", "x".into()).await.map(drop);
    let message = "the name of a plugin: expected 1 to 128 of the characters A-Z a-z 0-9 _ - . \
                   beginning with a letter, a digit or _, found \"../tank\"";
    check(result, Code::Invalid, message);
    let result = client.set("strange / name", Value::Int(-1)).await;
    let message = "the name of a point: expected 1 to 128 of the characters A-Z a-z 0-9 _ - . \
                   beginning with a letter, a digit or _, found \"strange / name\"";
    check(result, Code::Invalid, message);
    assert_eq!(stage.facts().orders.len(), 2, "only two made sense");
}

#[tokio::test]
async fn every_kind_of_failure_has_its_status() {
    let stage = Stage::with(|_, request| {
        let Request::Hold { name } = request else { return Ok(Response::Done) };
        let code = serde_json::from_value(name.as_str().into()).expect("the name is a code");
        Err(Failure::new(code, "no"))
    })
    .await;
    let codes =
        [("unknown", 404), ("invalid", 400), ("refused", 409), ("busy", 503), ("internal", 500)];
    for (code, status) in codes {
        let path = format!("/v1/plugins/{code}/hold");
        let (found, body) = hostile::exchange(&stage, "POST", &path, "").await;
        let expected = format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#) + "\n";
        assert_eq!((found, body), (status, expected));
    }
}

#[tokio::test]
async fn a_module_that_is_too_long_is_refused_and_not_passed_on() {
    let stage = Stage::set().await;
    // Far more than fits the socket's buffers: the answer must come through all the same.
    for length in [1001, 8 << 20] {
        match stage.client().deploy("tank", vec![0; length].into()).await {
            Err(Error::Failed(failure)) => assert_eq!(
                failure.message,
                format!(
                    "the body has {length} bytes; the limit is 1000 (plugins.module in the \
                     configuration)"
                )
            ),
            other => panic!("{other:?}"),
        }
    }
    stage.client().deploy("tank", vec![0; 1000].into()).await.unwrap();
    assert_eq!(stage.facts().orders.len(), 1);
}

#[tokio::test]
async fn the_socket_has_its_mode_and_goes_with_the_daemon() {
    let mut stage = Stage::set().await;
    let path = stage.path();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    match Socket::bind(&path, 0o600) {
        Err(error @ BindError::InUse(..)) => assert_eq!(
            error.to_string(),
            format!(
                "another daemon, process {}, has the control socket {}; stop that daemon, or \
                 set another control.socket in the configuration of this daemon",
                std::process::id(),
                path.display()
            )
        ),
        other => panic!("{other:?}"),
    }
    stage.client().status().await.expect("the first daemon is not disturbed");
    stage.stop.take().unwrap().send(()).unwrap();
    (&mut stage.server).await.unwrap();
    assert!(!path.exists());
    assert!(matches!(stage.client().status().await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn a_daemon_that_drops_a_call_is_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let socket = Socket::bind(&path, 0o600).unwrap();
    let (calls, mut inbox) = mpsc::channel(1);
    tokio::spawn(serve(socket, 1, calls, std::future::pending()));
    let client = Client::new(vec![path]);
    let (status, _) = tokio::join!(client.status(), async {
        drop(inbox.recv().await);
        inbox.close();
    });
    let busy = |result: Result<StatusView, Error>| match result {
        Err(Error::Failed(failure)) => {
            assert_eq!(failure, Failure::new(Code::Busy, "the daemon is stopping"));
        }
        other => panic!("{other:?}"),
    };
    busy(status);
    busy(client.status().await);
}

/// An order to a daemon that ended was answered with a library's words about a message.
#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_told_as_that() {
    use tokio::io::AsyncReadExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let daemon = tokio::spawn(async move {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[", "nonsense\r\n\r\n"] {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(peer.read(&mut request).await.unwrap() > 0);
            tokio::io::AsyncWriteExt::write_all(&mut peer, answer.as_bytes()).await.unwrap();
        }
    });
    let client = Client::new(vec![path.clone()]);
    for what in ["before the answer", "within it"] {
        let error = client.vars().await.unwrap_err();
        let expected = format!(
            "the daemon has ended the connection on {} without an answer: the daemon may have \
             stopped, so the outcome of the request is unknown",
            path.display()
        );
        assert_eq!(error.to_string(), expected, "{what}: {error:?}");
    }
    let error = client.vars().await.unwrap_err();
    assert!(matches!(error, Error::Strange(..)), "{error:?}");
    daemon.await.unwrap();
}
