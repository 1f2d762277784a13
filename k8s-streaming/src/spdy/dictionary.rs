//! The dictionary of SPDY/3 header compression (SPDY Protocol Draft 3, section 2.6.10.1): names and
//! values that headers often have, the names with their lengths in front.

/// Each comes with its length as four bytes.
const PREFIXED: &str = "\
    options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
    accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|\
    content-language|content-length|content-location|content-md5|content-range|content-type|date|\
    etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|\
    if-unmodified-since|last-modified|location|max-forwards|pragma|proxy-authenticate|\
    proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|\
    user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|\
    public|set-cookie|keep-alive|origin";

/// This follows as it is.
const PLAIN: &str = "\
    1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045\
    05203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
    Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Se\
    rvice UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed\
    , Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml\
    ,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The whole dictionary.
pub(super) fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1500);
    for word in PREFIXED.split('|') {
        let length = u32::try_from(word.len()).unwrap_or_default();
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(PLAIN.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_dictionary_has_the_checksum_that_peers_expect() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in super::dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }
}
