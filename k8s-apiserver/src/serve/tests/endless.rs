//! Answers without an end, and connections on which little happens.

use super::*;

/// Answers `/watch` with what a test sends on until it stops, and everything else with the path.
struct Feed {
    fixture: Fixture,
    events: mpsc::Sender<&'static str>,
    /// Says when the answer is dropped.
    dropped: CancellationToken,
}

async fn feed() -> Feed {
    feed_within(Limits::default()).await
}

async fn feed_within(limits: Limits) -> Feed {
    let (events, receiver) = mpsc::channel::<&'static str>(8);
    let dropped = CancellationToken::new();
    let watch = (receiver, dropped.clone().drop_guard());
    let watch = Arc::new(parking_lot::Mutex::new(Some(watch)));
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let watched = (path == "/watch").then(|| watch.lock().take()).flatten();
        async move {
            let Some(watched) = watched else {
                // Of a connection whose body nobody reads there is no next request.
                let _ = request.into_body().collect().await;
                return Ok::<_, Infallible>(Response::new(Body::from(path)));
            };
            let events = stream::unfold(watched, |(mut events, guard)| async move {
                let event = events.recv().await?;
                Some((Ok(Bytes::from_static(event.as_bytes())), (events, guard)))
            });
            let mut answer = Response::new(Body::from_stream(events));
            answer.extensions_mut().insert(Endless);
            Ok(answer)
        }
    });
    Feed {
        fixture: start_with(service, limits).await,
        events,
        dropped,
    }
}

#[tokio::test]
async fn a_connection_serves_on_after_an_endless_answer_has_ended() {
    let feed = feed().await;
    let stream = feed.fixture.connect(None, b"http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut get = async |path: &str| {
        let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap().into_body()
    };
    let mut body = get("/watch").await;
    for event in ["one", "two"] {
        feed.events.send(event).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    drop(feed.events);
    assert!(body.frame().await.is_none());
    let next = get("/next").await.collect().await.unwrap().to_bytes();
    assert_eq!(next, "/next");
}

#[tokio::test]
async fn a_request_that_was_sent_along_with_a_watch_is_answered_after_it() {
    let feed = feed().await;
    let mut stream = feed.fixture.connect(None, b"http/1.1").await.unwrap();
    let both = "GET /watch HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(both.as_bytes()).await.unwrap();
    feed.events.send("event").await.unwrap();
    drop(feed.events);
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (watch, next) = text.split_once("\r\n0\r\n\r\n").unwrap();
    assert!(watch.starts_with("HTTP/1.1 200 OK\r\n"), "{watch}");
    assert!(watch.contains("transfer-encoding: chunked\r\n"), "{watch}");
    assert!(watch.ends_with("\r\n\r\n5\r\nevent"), "{watch}");
    assert!(next.ends_with("\r\n\r\n/next"), "{next}");
}

#[tokio::test]
async fn requests_that_were_sent_together_are_answered_in_turn() {
    let feed = feed().await;
    let mut stream = feed.fixture.connect(None, b"http/1.1").await.unwrap();
    let mut all = String::new();
    for path in ["/1", "/2", "/3"] {
        all += &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    all += "POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\n\n\n\nGET /5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(all.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let answers = text.split("HTTP/1.1 200 OK\r\n").skip(1);
    let bodies: Vec<&str> = answers
        .map(|a| a.split_once("\r\n\r\n").unwrap().1)
        .collect();
    assert_eq!(bodies, ["/1", "/2", "/3", "/4", "/5"]);
}

#[tokio::test]
async fn an_endless_answer_ends_when_its_client_goes_away() {
    for request in [
        "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n",
        // The library keeps these: of a connection that is to be closed, and an older one.
        "GET /watch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /watch HTTP/1.0\r\nHost: x\r\n\r\n",
    ] {
        let feed = feed().await;
        let mut stream = feed.fixture.connect(None, b"http/1.1").await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        feed.events.send("event").await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"event") && !text.ends_with(b"event\r\n") {
            assert!(stream.read_buf(&mut text).await.unwrap() > 0);
        }
        drop(stream);
        feed.dropped.cancelled().await;
    }
}

#[tokio::test]
async fn shutdown_cuts_an_endless_answer() {
    let feed = feed().await;
    let mut stream = feed.fixture.connect(None, b"http/1.1").await.unwrap();
    let request = b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    feed.events.send("event").await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"event\r\n") {
        assert!(stream.read_buf(&mut text).await.unwrap() > 0);
    }
    feed.fixture.server.shutdown(Duration::ZERO).await;
    feed.dropped.cancelled().await;
}

#[tokio::test]
async fn an_idle_connection_is_ended_and_one_with_a_watch_goes_on() {
    let limits = Limits {
        idle: Duration::from_secs(2),
        ..Limits::default()
    };
    let feed = feed_within(limits).await;
    let (mut watcher, _connection) = http2(&feed.fixture, 1000).await;
    let mut watch = get2(&mut watcher, "/watch").await.unwrap().into_body();

    let (mut idler, ended) = http2(&feed.fixture, 1000).await;
    let answer = get2(&mut idler, "/once").await.unwrap();
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "/once");
    ended.await.unwrap().unwrap();
    assert!(get2(&mut idler, "/again").await.is_err());

    feed.events.send("event").await.unwrap();
    let frame = watch.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "event");
}

#[tokio::test]
async fn a_client_that_agreed_on_http2_and_says_nothing_is_hung_up_on() {
    let limits = Limits {
        idle: Duration::from_millis(50),
        ..Limits::default()
    };
    let feed = feed_within(limits).await;
    let mut stream = feed.fixture.connect(None, b"h2").await.unwrap();
    // With or without a goodbye of TLS.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn an_endless_answer_whose_client_is_stuck_is_ended() {
    let limits = Limits {
        untaken: SOON,
        ..Limits::default()
    };
    let feed = feed_within(limits).await;
    let mut stream = feed.fixture.connect(None, b"http/1.1").await.unwrap();
    let request = b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let event: &str = String::leak("x".repeat(100_000));
    while feed.events.send(event).await.is_ok() {}
    feed.dropped.cancelled().await;
}
