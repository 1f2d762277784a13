//! Answers that their clients do not take.

use super::*;

/// What a client may ask for.
#[derive(Clone, Copy)]
enum Long {
    /// Never ends.
    Endless,
    /// Never ends, and the client may leave it alone.
    AtLeisure,
    /// All of it is in one piece.
    Piece(usize),
}

/// Answers `/long` with that, whose end is told, and everything else with the path.
async fn long(long: Long, untaken: Duration) -> (Fixture, CancellationToken) {
    let dropped = CancellationToken::new();
    let guard = Arc::new(parking_lot::Mutex::new(Some(dropped.clone().drop_guard())));
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let guard = (path == "/long").then(|| guard.lock().take());
        async move {
            let Some(guard) = guard else {
                return Ok::<_, Infallible>(Response::new(Body::from(path)));
            };
            if let Long::Piece(size) = long {
                let piece = Bytes::from_owner(Piece {
                    bytes: vec![0; size],
                    _guard: guard,
                });
                return Ok(Response::new(Body::from(piece)));
            }
            let pieces = stream::unfold(guard, |guard| async move {
                Some((Ok(Bytes::from_static(&[0; 1000])), guard))
            });
            let mut answer = Response::new(Body::from_stream(pieces));
            if matches!(long, Long::AtLeisure) {
                answer.extensions_mut().insert(AtLeisure);
            }
            Ok(answer)
        }
    });
    let limits = Limits {
        untaken,
        ..Limits::default()
    };
    (start_with(service, limits).await, dropped)
}

struct Piece {
    bytes: Vec<u8>,
    _guard: Option<tokio_util::sync::DropGuard>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test]
async fn an_answer_that_is_left_alone_is_given_up_and_the_connection_goes_on() {
    let (fixture, dropped) = long(Long::Endless, SOON).await;
    let (mut sender, _connection) = http2(&fixture, 1010).await;
    let mut body = get2(&mut sender, "/long").await.unwrap().into_body();
    // Two pieces are wanted, and no more.
    dropped.cancelled().await;
    let answer = get2(&mut sender, "/short").await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::OK);
    let error = loop {
        match body.frame().await.expect("not the end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
}

#[tokio::test]
async fn an_answer_is_given_up_though_the_http_library_has_all_of_it() {
    let (fixture, dropped) = long(Long::Piece(100_000), SOON).await;
    let (mut sender, _connection) = http2(&fixture, 10).await;
    let mut body = get2(&mut sender, "/long").await.unwrap().into_body();
    dropped.cancelled().await;
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first.len(), 10);
    let error = body.frame().await.expect("not the end").unwrap_err();
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    assert_eq!(
        get2(&mut sender, "/short").await.unwrap().status(),
        http::StatusCode::OK
    );
}

#[tokio::test]
async fn a_connection_whose_short_answer_is_left_alone_is_given_up() {
    let (fixture, dropped) = long(Long::Piece(1000), SOON).await;
    let (mut sender, ended) = http2(&fixture, 10).await;
    let _answer = get2(&mut sender, "/long").await.unwrap();
    dropped.cancelled().await;
    let _ = ended.await.unwrap();
}

#[tokio::test]
async fn answers_are_whole_over_http2_whatever_their_length() {
    for size in [1, 1 << 14, 100_000, 1 << 20] {
        let (fixture, _dropped) = long(Long::Piece(size), Duration::from_secs(60)).await;
        for window in [1000, 1 << 16] {
            let (mut sender, _connection) = http2(&fixture, window).await;
            let answer = get2(&mut sender, "/long").await.unwrap();
            let length = &answer.headers()[http::header::CONTENT_LENGTH];
            assert_eq!(length.to_str().unwrap(), size.to_string());
            assert_eq!(answer.collect().await.unwrap().to_bytes().len(), size);
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_left_alone_is_given_up_over_http1() {
    for request in [
        "GET /long HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /long HTTP/1.0\r\n\r\n",
    ] {
        let (fixture, dropped) = long(Long::Endless, SOON).await;
        let mut stream = fixture.connect(None, b"http/1.1").await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        dropped.cancelled().await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn little_of_what_a_client_leaves_alone_is_in_the_kernel() {
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = made.clone();
    let dropped = CancellationToken::new();
    let guard = Arc::new(parking_lot::Mutex::new(Some(dropped.clone().drop_guard())));
    let service = tower::service_fn(move |_: Request<Incoming>| {
        let watched = (count.clone(), guard.lock().take());
        let pieces = stream::unfold(watched, |(count, guard)| async move {
            count.fetch_add(10_000, std::sync::atomic::Ordering::Relaxed);
            Some((Ok(Bytes::from_static(&[0; 10_000])), (count, guard)))
        });
        let answer = Response::new(Body::from_stream(pieces));
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let limits = Limits {
        untaken: SOON,
        ..Limits::default()
    };
    let fixture = start_with(service, limits).await;
    let mut stream = fixture.connect(None, b"http/1.1").await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    dropped.cancelled().await;
    let made = made.load(std::sync::atomic::Ordering::Relaxed);
    // The client's side of the connection, TLS and the library have some too.
    assert!(made < 2 << 20, "{made}");
}

#[tokio::test]
async fn a_client_at_leisure_is_waited_for() {
    let (fixture, dropped) = long(Long::AtLeisure, SOON).await;
    let mut first = fixture.connect(None, b"http/1.1").await.unwrap();
    let request = b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n";
    first.write_all(request).await.unwrap();
    // Another, who is not, is given up meanwhile.
    let (other, given_up) = long(Long::Endless, SOON * 3).await;
    let mut second = other.connect(None, b"http/1.1").await.unwrap();
    second.write_all(request).await.unwrap();
    given_up.cancelled().await;
    assert!(!dropped.is_cancelled());
    let mut space = vec![0; 10 << 20];
    first.read_exact(&mut space).await.unwrap();
}
