//! One span per request, in the trace that its client names.
//!
//! A client that traces sends `traceparent` (<https://www.w3.org/TR/trace-context/>). The span takes over its numbers as the
//! fields `trace_id` and `parent_id`, from which a subscriber may go on.

use http::{HeaderMap, Method};
use tracing::{Span, field::Empty};

use super::RequestInfo;

/// Where in a trace a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent<'h> {
    trace: &'h str,
    span: &'h str,
    sampled: bool,
}

fn parent(headers: &HeaderMap) -> Option<Parent<'_>> {
    let mut all = headers.get_all("traceparent").iter();
    // Two of them say nothing.
    let (Some(value), None) = (all.next(), all.next()) else {
        return None;
    };
    let mut parts = value.to_str().ok()?.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    // Later versions may say more behind.
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !known || !hex(trace, 32) || zero(trace) || !hex(span, 16) || zero(span) || !hex(flags, 2) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(Parent {
        trace,
        span,
        sampled: flags & 1 == 1,
    })
}

/// The span of a request. Its fields `code` and `user` are filled in later.
pub(crate) fn span(method: &Method, headers: &HeaderMap, info: &RequestInfo) -> Span {
    let span = tracing::info_span!(
        "request",
        %method,
        path = info.path.as_str(),
        verb = info.verb.as_str(),
        group = info.group.as_str(),
        resource = info.resource.as_str(),
        subresource = info.subresource.as_str(),
        namespace = info.namespace.as_str(),
        name = info.name.as_str(),
        user = Empty,
        code = Empty,
        trace_id = Empty,
        parent_id = Empty,
        sampled = Empty,
    );
    if !span.is_disabled()
        && let Some(parent) = parent(headers)
    {
        span.record("trace_id", parent.trace);
        span.record("parent_id", parent.span);
        span.record("sampled", parent.sampled);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_parent_is_taken_over_if_it_is_one() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().unwrap());
            }
            parent(&headers).map(|p| (p.trace.to_owned(), p.span.to_owned(), p.sampled))
        };
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let found = |sampled| Some((trace.to_owned(), span.to_owned(), sampled));
        let good = format!("00-{trace}-{span}-01");
        assert_eq!(of(&[&good]), found(true));
        assert_eq!(of(&[&format!("00-{trace}-{span}-00")]), found(false));
        assert_eq!(of(&[&format!("cc-{trace}-{span}-01-later")]), found(true));
        for bad in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            good.to_uppercase(),
        ] {
            assert_eq!(of(&[&bad]), None, "{bad}");
        }
        assert_eq!(of(&[&good, &good]), None);
        assert_eq!(of(&[]), None);
    }
}
