//! Links in HTML that passes: those to a place at the backend lead to where the client finds it, as those of upstream's
//! `apimachinery/pkg/util/proxy`.

use std::{
    borrow::Cow,
    error::Error as StdError,
    io::{self, Write},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use flate2::{
    Compression,
    write::{DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder},
};
use futures::{Stream, stream};
use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use lol_html::{
    HandlerResult, MemorySettings, Selector,
    errors::RewritingError,
    send::{Element, ElementContentHandlers, HtmlRewriter, Settings},
};
use parking_lot::Mutex;

use crate::http::Body;

/// The attributes that are links, by their elements.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// The elements that may have some. There always is such a selector, as tests show.
static HAVE_LINKS: LazyLock<Option<Selector>> = LazyLock::new(|| {
    let names: Vec<&str> = LINKS.iter().map(|(element, _)| *element).collect();
    names.join(",").parse().ok()
});

/// How long a tag may be, and what else is remembered of a page; past that it passes as it is. Pictures may stand in
/// their tags.
const MEMORY: usize = 8 << 20;
/// How much is unpacked at a time: a thousand times as much, at the worst.
const PIECE: usize = 4 << 10;

type Sink = Box<dyn FnMut(&[u8]) + Send>;

fn move_links(
    element: &mut Element<'_, '_>,
    moved: &impl Fn(&str) -> Option<String>,
) -> HandlerResult {
    let name = element.tag_name();
    let attributes = LINKS.iter().find(|(element, _)| *element == name);
    for attribute in attributes.map_or(&[][..], |(_, attributes)| attributes) {
        if let Some(to) = element.get_attribute(attribute).and_then(|at| moved(&at)) {
            element.set_attribute(attribute, &to)?;
        }
    }
    Ok(())
}

/// The answer with its links as `moved` says, where that says anything: the page as the backend sent it in any other
/// respect. What is no HTML, or is packed in a way that nobody here knows, passes as it is.
pub(super) fn rewritten(
    answer: Response<Body>,
    moved: impl Fn(&str) -> Option<String> + Send + 'static,
) -> Response<Body> {
    let Some(packing) = packing(answer.headers()) else {
        return answer;
    };
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let page = Page::new(packing, moved);
    Response::from_parts(parts, Body::wrap(StreamBody::new(pages(body, page))))
}

/// How the HTML of an answer is packed, if it is HTML.
fn packing(headers: &HeaderMap) -> Option<Packing> {
    let text = |name| headers.get(name).map_or(Ok(""), |value| value.to_str());
    let kind = text(header::CONTENT_TYPE).ok()?;
    if kind.split(';').next()?.trim() != "text/html" {
        return None;
    }
    match text(header::CONTENT_ENCODING).ok()? {
        "" => Some(Packing::None),
        "gzip" => Some(Packing::Gzip),
        "deflate" => Some(Packing::Deflate),
        other => {
            tracing::debug!(encoding = other, "links in HTML stay as they are");
            None
        }
    }
}

type Failure = Box<dyn StdError + Send + Sync>;

fn pages(body: Body, page: Page) -> impl Stream<Item = Result<Frame<Bytes>, Failure>> + Send {
    stream::try_unfold((body, Some(page)), |(mut body, mut page)| async move {
        loop {
            let Some(open) = &mut page else {
                return Ok(None);
            };
            let sent = match body.frame().await.transpose()? {
                None => match page.take() {
                    Some(page) => page.end()?,
                    None => return Ok(None),
                },
                Some(frame) => match frame.into_data() {
                    Ok(data) => open.take(data)?,
                    Err(trailers) => return Ok(Some((trailers, (body, page)))),
                },
            };
            if !sent.is_empty() {
                return Ok(Some((Frame::data(Bytes::from(sent)), (body, page))));
            }
        }
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    /// As Go has it: without zlib's header.
    Deflate,
}

/// Packs or unpacks what is written to it.
trait Coder: Write + Send {
    /// What has come out.
    fn out(&mut self) -> &mut Vec<u8>;

    /// Nothing more is written.
    fn finish(&mut self) -> io::Result<()>;
}

impl Coder for Vec<u8> {
    fn out(&mut self) -> &mut Vec<u8> {
        self
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! coders {
    ($($coder:ident),*) => {$(
        impl Coder for $coder<Vec<u8>> {
            fn out(&mut self) -> &mut Vec<u8> {
                self.get_mut()
            }

            fn finish(&mut self) -> io::Result<()> {
                self.try_finish()
            }
        }
    )*};
}

coders!(MultiGzDecoder, DeflateDecoder, GzEncoder, DeflateEncoder);

/// A page on its way.
struct Page {
    unpack: Box<dyn Coder>,
    /// Until there is too much to remember.
    rewriter: Option<HtmlRewriter<'static, Sink>>,
    written: Arc<Mutex<Vec<u8>>>,
    pack: Box<dyn Coder>,
    /// What has no bytes is no packed page.
    begun: bool,
}

impl Page {
    fn new(packing: Packing, moved: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        let (unpack, pack): (Box<dyn Coder>, Box<dyn Coder>) = match packing {
            Packing::None => (Box::new(Vec::new()), Box::new(Vec::new())),
            Packing::Gzip => (
                Box::new(MultiGzDecoder::new(Vec::new())),
                Box::new(GzEncoder::new(Vec::new(), Compression::default())),
            ),
            Packing::Deflate => (
                Box::new(DeflateDecoder::new(Vec::new())),
                Box::new(DeflateEncoder::new(Vec::new(), Compression::default())),
            ),
        };
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let memory = MemorySettings::new()
            .with_max_allowed_memory_usage(MEMORY)
            .with_graceful_bail_out_on_memory_limit_exceeded(true);
        let mut settings = Settings::new_send()
            .with_memory_settings(memory)
            .with_strict(false);
        if let Some(selector) = &*HAVE_LINKS {
            let links = ElementContentHandlers::default()
                .element(move |element: &mut Element<'_, '_>| move_links(element, &moved));
            settings = settings.append_element_content_handler((Cow::Borrowed(selector), links));
        }
        let to = written.clone();
        let sink: Sink = Box::new(move |html: &[u8]| to.lock().extend_from_slice(html));
        Page {
            unpack,
            rewriter: Some(HtmlRewriter::new(settings, sink)),
            written,
            pack,
            begun: false,
        }
    }

    /// What of the page can be sent after that much more of it.
    fn take(&mut self, data: Bytes) -> Result<Vec<u8>, Failure> {
        self.begun |= !data.is_empty();
        for piece in data.chunks(PIECE) {
            self.unpack.write_all(piece)?;
            self.unpack.flush()?;
            self.rewrite()?;
        }
        self.pack.flush()?;
        Ok(std::mem::take(self.pack.out()))
    }

    fn rewrite(&mut self) -> Result<(), Failure> {
        let html = std::mem::take(self.unpack.out());
        let Some(rewriter) = &mut self.rewriter else {
            return Ok(self.pack.write_all(&html)?);
        };
        match rewriter.write(&html) {
            Ok(()) => {}
            // All that it had has been written as it was.
            Err(RewritingError::MemoryLimitExceeded(_)) => self.rewriter = None,
            Err(error) => return Err(error.into()),
        }
        self.pack_written()
    }

    fn pack_written(&mut self) -> Result<(), Failure> {
        let html = std::mem::take(&mut *self.written.lock());
        Ok(self.pack.write_all(&html)?)
    }

    /// The rest of it.
    fn end(mut self) -> Result<Vec<u8>, Failure> {
        if !self.begun {
            return Ok(Vec::new());
        }
        self.unpack.finish()?;
        self.rewrite()?;
        match self.rewriter.take().map(HtmlRewriter::end) {
            None | Some(Ok(()) | Err(RewritingError::MemoryLimitExceeded(_))) => {}
            Some(Err(error)) => return Err(error.into()),
        }
        self.pack_written()?;
        self.pack.finish()?;
        Ok(std::mem::take(self.pack.out()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read;

    use super::*;

    const PAGE: &str = "<!doctype html><html><!-- /a --><a class=x HREF='/a?b=1&amp;c=2'>/a</a><p src=\"/p\"><img\n src=/i alt=\"\u{e9}\"/>\
<a href=there><a href><script src=/s>var a = '<a href=\"/n\">';</script><object data=/d usemap=#m></html>";
    const MOVED: &str = "<!doctype html><html><!-- /a --><a class=x HREF=\"/at/a?b=1&amp;c=2\">/a</a><p src=\"/p\"><img src=\"/at/i\" alt=\"\u{e9}\" />\
<a href=there><a href><script src=\"/at/s\">var a = '<a href=\"/n\">';</script><object data=\"/at/d\" usemap=#m></html>";

    fn at(place: &str) -> Option<String> {
        place.starts_with('/').then(|| format!("/at{place}"))
    }

    /// What comes of a page that comes in pieces of so many bytes.
    async fn passed(kind: &str, encoding: &str, body: &[u8], size: usize) -> Response<Vec<u8>> {
        let pieces: Vec<_> = (body.chunks(size))
            .map(|piece| Ok::<_, Failure>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let answer = Response::builder()
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONTENT_ENCODING, encoding)
            .header(header::CONTENT_LENGTH, body.len())
            .body(Body::wrap(StreamBody::new(stream::iter(pieces))));
        let (parts, body) = rewritten(answer.unwrap(), at).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::from_parts(parts, body.to_vec())
    }

    #[test]
    fn there_is_a_selector_of_all_elements_with_links() {
        assert!(HAVE_LINKS.is_some());
    }

    #[tokio::test]
    async fn links_to_the_backend_lead_to_the_proxy_however_the_page_is_packed_and_cut() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(PAGE.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(PAGE.as_bytes()).unwrap();
        let deflate = deflate.finish().unwrap();
        for size in [1, 7, 1_000_000] {
            let kind = "text/html; charset=utf-8";
            let plain = passed(kind, "", PAGE.as_bytes(), size).await;
            assert!(!plain.headers().contains_key(header::CONTENT_LENGTH));
            assert_eq!(String::from_utf8_lossy(plain.body()), MOVED);
            let mut text = String::new();
            let packed = passed(kind, "gzip", &gzip, size).await;
            let mut unpacked = read::MultiGzDecoder::new(packed.body().as_slice());
            unpacked.read_to_string(&mut text).unwrap();
            assert_eq!(text, MOVED);
            text.clear();
            let packed = passed(kind, "deflate", &deflate, size).await;
            let mut unpacked = read::DeflateDecoder::new(packed.body().as_slice());
            unpacked.read_to_string(&mut text).unwrap();
            assert_eq!(text, MOVED);
        }
    }

    #[tokio::test]
    async fn what_is_no_page_or_packed_otherwise_passes_as_it_is() {
        for (kind, encoding) in [("text/plain", ""), ("text/html", "br"), ("text/htmlx", "")] {
            let same = passed(kind, encoding, PAGE.as_bytes(), 10).await;
            assert_eq!(same.body(), PAGE.as_bytes());
            assert!(same.headers().contains_key(header::CONTENT_LENGTH));
        }
        // The answer to who asks for the headers alone.
        for encoding in ["", "gzip", "deflate"] {
            assert!(
                passed("text/html", encoding, b"", 1)
                    .await
                    .body()
                    .is_empty()
            );
        }
    }

    #[tokio::test]
    async fn a_tag_without_an_end_passes_and_is_not_kept() {
        let endless = [
            b"<a href=\"".as_slice(),
            &vec![b'x'; MEMORY + 1],
            b"\"><a href=\"/a\">",
        ]
        .concat();
        let same = passed("text/html", "", &endless, 1 << 16).await;
        assert!(*same.body() == endless);
    }
}
