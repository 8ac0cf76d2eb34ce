//! Tests of clients of the control socket that are stuck, send too much or send wrong data.
//!
//! The server must close the connection of such a client or answer with an error. Other clients
//! must not notice the hostile client.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

/// Sends bytes and reads until the server closes; an abrupt end counts as an end.
async fn send(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(stage.path()).await.expect("somebody listens");
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
        .await
        .expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request written by hand; status and body of the answer.
pub(super) async fn exchange(stage: &Stage, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let answer = send(stage, (head + body).as_bytes()).await;
    let status = answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string());
    (status, body.unwrap_or_default())
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let stage = Stage::set().await;
    let check = async |request: (&str, &str, &str), status: u16, message: &str| {
        let (method, path, body) = request;
        let (found, answer) = exchange(&stage, method, path, body).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).expect(&answer);
        let said = answer["error"]["message"].as_str().unwrap_or_default().to_string();
        assert_eq!((found, said.as_str()), (status, message), "{request:?}");
    };
    check(("GET", "/", ""), 404, "there is no route /; GET /v1 lists all routes").await;
    check(("GET", "/v2/x", ""), 404, "there is no route /v2/x; GET /v1 lists all routes").await;
    for query in ["limit=0", "limit=1001", "limit=-1", "limit=all", "limit=1&limit=2", "last=5"] {
        let message = format!("expected ?limit=1 to ?limit=1000, found ?{query}");
        check(("GET", &format!("/v1/history?{query}"), ""), 400, &message).await;
        check(("GET", &format!("/v1/plugins/tank/history?{query}"), ""), 400, &message).await;
    }
    let message = "/v1/status does not accept POST; GET /v1 lists its methods";
    check(("POST", "/v1/status", ""), 405, message).await;
    let message = "the body must be {\"value\":...} with true, false or a number: EOF while \
                   parsing a value at line 1 column 0";
    check(("PUT", "/v1/points/p", ""), 400, message).await;
    let message = "the body must be {\"value\":...} with true, false or a number: invalid type: \
                   string \"x\", expected true, false or a number at line 1 column 13";
    check(("PUT", "/v1/points/p", "{\"value\":\"x\"}"), 400, message).await;
    let message = format!("the body has {} bytes; the limit is 65536 (fixed)", 100_000);
    check(("PUT", "/v1/points/p", &"[".repeat(100_000)), 413, &message).await;
    let (status, _) = exchange(&stage, "PUT", "/v1/points/p", &"[".repeat(60_000)).await;
    assert_eq!(status, 400, "deep nesting is no danger");
    let (status, _) = exchange(&stage, "POST", "/v1/plugins/%ff/hold", "").await;
    assert_eq!(status, 400, "a name is text");
    let (status, list) = exchange(&stage, "GET", "/v1", "").await;
    assert_eq!(status, 200);
    assert!(list.contains("PUT /v1/plugins/NAME"), "{list}");
    assert_eq!(stage.facts().orders, []);
}

#[tokio::test]
async fn noise_is_shut_out() {
    let stage = Stage::set().await;
    let mut seed = 1u64;
    for length in [1, 100, 10_000, 1_000_000] {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        })
        .take(length)
        .collect();
        let answer = send(&stage, &noise).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{length}: {answer}");
    }
    let long = format!("GET /v1 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1_000_000));
    let answer = send(&stage, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    stage.client().status().await.expect("the daemon still answers");
}

#[tokio::test]
async fn a_hundred_idle_connections_lock_nobody_out() {
    let stage = Stage::set().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(UnixStream::connect(stage.path()).await.unwrap());
    }
    let mut slow = UnixStream::connect(stage.path()).await.unwrap();
    slow.write_all(b"GET /v1/sta").await.unwrap();
    stage.client().status().await.expect("it waits, and then it is served");
    for stream in idle.iter_mut().chain([&mut slow]) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
        read.await.expect("each is closed").ok();
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn few_uploads_at_a_time_and_a_slow_one_keeps_no_other_out() {
    let stage = Stage::set().await;
    let head = b"PUT /v1/plugins/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n";
    let mut steady = Vec::new();
    for upload in 0..4 {
        let (status, body) = exchange(&stage, "PUT", "/v1/plugins/y", "good").await;
        assert_eq!(status, 202, "beside {upload} others: {body}");
        let mut sender = UnixStream::connect(stage.path()).await.unwrap();
        sender.write_all(head).await.unwrap();
        steady.push(sender);
    }
    let feeding = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            for sender in &mut steady {
                sender.write_all(&[0; 4096]).await.expect("it keeps pace, and is heard");
            }
        }
    };
    let asking = eventually("a busy server", async || {
        let (status, body) = exchange(&stage, "PUT", "/v1/plugins/y", "good").await;
        assert!(status == 202 || body.contains("the daemon receives 4 other modules"), "{body}");
        status == 503
    });
    tokio::select! {
        () = feeding => {}
        () = asking => {}
    }
    drop(steady);
    assert_eq!(exchange(&stage, "PUT", "/v1/plugins/y", "good").await.0, 202);
}

#[tokio::test]
async fn an_upload_that_is_stuck_keeps_no_other_out() {
    let stage = Stage::set().await;
    let mut stuck = UnixStream::connect(stage.path()).await.unwrap();
    let head = b"PUT /v1/plugins/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ngo";
    stuck.write_all(head).await.unwrap();
    let other = || exchange(&stage, "PUT", "/v1/plugins/y", "good");
    let (one, two) = tokio::join!(other(), other());
    for (status, body) in [one, two] {
        assert_eq!(status, 202, "{body}");
    }
    let mut answer = String::new();
    stuck.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(
        answer.contains("the body was not complete after 2s; 2 bytes were received"),
        "{answer}"
    );
}

#[tokio::test]
async fn requests_that_never_end_keep_an_operator_out_for_seconds_only() {
    let stage = Stage::set().await;
    let mut stuck = Vec::new();
    for _ in 0..33 {
        let mut stream = UnixStream::connect(stage.path()).await.unwrap();
        let head = b"PUT /v1/vars/x HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stuck.push(stream);
    }
    let started = std::time::Instant::now();
    stage.client().status().await.expect("it waits, and then it is served");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// Sends all of a request, and then reads all of the answer.
async fn answered(stage: &Stage, request: &[u8]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(stage.path()).await?;
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn who_is_refused_early_gets_the_answer_and_no_reset() {
    let stage = Stage::set().await;
    let long = "x".repeat(1_000_000);
    for (start, expected) in [
        ("PUT /v1/plugins/..", 400),
        ("PUT /v1/plugins/-x", 400),
        ("PUT /v1/nowhere", 404),
        ("POST /v1/status", 405),
    ] {
        let head = format!("{start} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        let request = head + &long;
        for _ in 0..20 {
            let answer = answered(&stage, request.as_bytes()).await;
            let answer = answer.unwrap_or_else(|error| panic!("{start}: {error}"));
            let status = answer.get(9..12).and_then(|code| code.parse::<u16>().ok());
            assert_eq!(status, Some(expected), "{start}: {answer}");
        }
    }
    let head = format!("GET /v1 HTTP/1.1\r\nX: {long}\r\n\r\n");
    let answer = answered(&stage, head.as_bytes()).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn who_says_that_there_is_no_more_to_come_is_answered() {
    let stage = Stage::set().await;
    for round in 0..200 {
        let mut stream = UnixStream::connect(stage.path()).await.unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "round {round}: {answer:?}");
    }
}
