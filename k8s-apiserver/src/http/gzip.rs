//! Compression of long answers.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::body::{Body, Chunks};

/// Answers shorter than this are not worth it; upstream's threshold.
const THRESHOLD: usize = 128 * 1024;

/// Compresses a body if it is long, quickly rather than well, as upstream does. Says whether it did.
///
/// What is made piece by piece is compressed piece by piece, so that a long list is never in memory.
pub(crate) fn compress(body: Body) -> (Body, bool) {
    if body.len().is_some_and(|len| len <= THRESHOLD as u64) {
        return (body, false);
    }
    let mut chunks = match body.into_chunks() {
        Ok(chunks) => chunks,
        Err(body) => return (body, false),
    };
    let (mut first, mut length, mut ended) = (Vec::new(), 0, false);
    while length <= THRESHOLD && !ended {
        match chunks() {
            Some(Ok(chunk)) => {
                length += chunk.len();
                first.push(chunk);
            }
            Some(Err(error)) => {
                let mut error = Some(error);
                return (
                    Body::from_chunks(None, move || error.take().map(Err)),
                    false,
                );
            }
            None => ended = true,
        }
    }
    if length <= THRESHOLD {
        return (Body::from_slices(first), false);
    }
    let mut first = first.into_iter();
    let mut compressed = deflate(Box::new(move || first.next().map(Ok).or_else(&mut chunks)));
    if !ended {
        return (Body::from_chunks(None, compressed), true);
    }
    let whole: Result<Vec<Bytes>, _> = std::iter::from_fn(&mut *compressed).collect();
    match whole {
        Ok(slices) => (Body::from_slices(slices), true),
        Err(error) => {
            let mut error = Some(error);
            (Body::from_chunks(None, move || error.take().map(Err)), true)
        }
    }
}

fn deflate(mut chunks: Chunks) -> Chunks {
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    Box::new(move || {
        loop {
            match chunks() {
                Some(Ok(chunk)) => {
                    let encoder = encoder.as_mut()?;
                    if let Err(error) = encoder.write_all(&chunk) {
                        return Some(Err(error.into()));
                    }
                    let out = std::mem::take(encoder.get_mut());
                    if !out.is_empty() {
                        return Some(Ok(Bytes::from(out)));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    let rest = encoder.take()?.finish();
                    return Some(rest.map(Bytes::from).map_err(Into::into));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body_util::BodyExt;

    use super::*;

    fn pieces(count: usize) -> Body {
        let mut left = count;
        Body::from_chunks(None, move || {
            left = left.checked_sub(1)?;
            Some(Ok(Bytes::from(vec![b'a' + (left % 26) as u8; 64 * 1024])))
        })
    }

    #[tokio::test]
    async fn a_long_body_is_compressed_piece_by_piece() {
        for (count, is_long) in [(1, false), (2, false), (3, true), (100, true)] {
            let plain = pieces(count).collect().await.unwrap().to_bytes();
            let (body, compressed) = compress(pieces(count));
            assert_eq!(compressed, is_long, "{count}");
            let bytes = body.collect().await.unwrap().to_bytes();
            if !is_long {
                assert_eq!(bytes, plain);
                continue;
            }
            assert!(bytes.len() < plain.len() / 20);
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..])
                .read_to_end(&mut back)
                .unwrap();
            assert_eq!(back, plain);
        }
    }
}
