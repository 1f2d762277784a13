//! Lists: consistent, in pages, by selectors.

use std::sync::Arc;

use base64::{
    DecodeError, Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use k8s_store::{List, Revision};
use serde::{Deserialize, Serialize};

use super::{Registry, Row, selection::Selection};
use crate::{
    Error, Result,
    cache::{Cache, Entry},
    http::options::{ListOptions, VersionMatch, parse_resource_version},
};

/// The largest page that is read from the store at a time where a selector drops objects.
const MAX_PAGE: usize = 10_000;

/// One answer to a list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl Listed {
    /// What is selected of that, all at once.
    fn picked(
        row: &Row,
        selection: &Selection,
        found: Vec<Arc<Entry>>,
        revision: u64,
    ) -> Result<Self> {
        let mut entries = Vec::new();
        for entry in found {
            if selection.matches_inside(row, &entry)? {
                entries.push(entry);
            }
        }
        Ok(Listed {
            entries,
            revision,
            continue_token: None,
            remaining: None,
        })
    }
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Registry {
    pub(crate) async fn list(
        &self,
        row: &Row,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Listed> {
        let mut listed = self.select(row, namespace, options).await?;
        row.settle_entries(&mut listed.entries).await?;
        Ok(listed)
    }

    async fn select(&self, row: &Row, namespace: &str, options: &ListOptions) -> Result<Listed> {
        let selection = Selection::new(row, namespace, options)?;
        let asked = parse_resource_version(&options.resource_version)
            .map_err(|error| error.with_message(|m| format!("invalid resource version: {m}")))?;
        let paging = options.limit > 0 || !options.continue_token.is_empty();
        let exact = match (options.version_match, asked) {
            (Some(VersionMatch::Exact), Some(asked)) => Some(asked),
            // Before `resourceVersionMatch`, a page at a version meant exactly that version.
            (None, Some(asked))
                if options.limit > 0 && asked > 0 && options.continue_token.is_empty() =>
            {
                Some(asked)
            }
            _ => None,
        };
        // Whoever is content with whatever the server has at hand gets that.
        if asked == Some(0)
            && !paging
            && exact.is_none()
            && let Some(cache) = self.at_hand(row)
            && let Some(listed) = self.list_at_hand(row, &selection, &cache)?
        {
            return Ok(listed);
        }
        if selection.one {
            return self.list_one(row, &selection, exact, asked).await;
        }
        if !paging && exact.is_none() && selection.looks_inside() {
            return self.list_cached(row, &selection, asked).await;
        }
        self.list_pages(row, &selection, options, asked, exact)
            .await
    }

    /// What a selector picks from the newest objects: the cache knows their labels.
    async fn list_cached(
        &self,
        row: &Row,
        selection: &Selection,
        asked: Option<u64>,
    ) -> Result<Listed> {
        let read = |cache: &Arc<Cache>| match selection.is_nothing() {
            true => Ok(Vec::new()),
            false => cache.snapshot(&selection.prefix),
        };
        let (revision, found) = self.caches.read(&row.prefix, asked, read).await?;
        Listed::picked(row, selection, found, revision)
    }

    /// What the cache has now, whatever the store has; nothing where that is to say.
    fn list_at_hand(
        &self,
        row: &Row,
        selection: &Selection,
        cache: &Arc<Cache>,
    ) -> Result<Option<Listed>> {
        let revision = self.caches.applied();
        let found = match (selection.is_nothing(), selection.one) {
            (true, _) => Vec::new(),
            (false, false) => cache.snapshot(&selection.prefix)?,
            (false, true) => match cache.one(&selection.prefix) {
                Some(entry) => vec![entry],
                None => return Ok(None),
            },
        };
        // One that was closed in the meantime missed changes.
        match cache.is_closed() {
            true => Ok(None),
            false => Listed::picked(row, selection, found, revision).map(Some),
        }
    }

    /// A list of one name is a read.
    async fn list_one(
        &self,
        row: &Row,
        selection: &Selection,
        exact: Option<u64>,
        asked: Option<u64>,
    ) -> Result<Listed> {
        let revision = match exact {
            Some(revision) => revision,
            None => self.newest(asked).await?,
        };
        let found = self
            .store
            .get(&selection.prefix, Some(Revision(revision)))
            .await
            .map_err(|e| list_error(e, &row.prefix, None))?;
        let found = found.map(|found| Entry::new(&found)).transpose()?;
        let found = found.into_iter().map(Arc::new).collect();
        Listed::picked(row, selection, found, revision)
    }

    /// The newest revision, which must be no older than the one that is asked for.
    async fn newest(&self, asked: Option<u64>) -> Result<u64> {
        let newest = self.store.revision().await?.0;
        match asked {
            Some(asked) if asked > newest => Err(Error::too_large_resource_version(asked, newest)),
            _ => Ok(newest),
        }
    }

    /// Pages from the store's history.
    async fn list_pages(
        &self,
        row: &Row,
        selection: &Selection,
        options: &ListOptions,
        asked: Option<u64>,
        exact: Option<u64>,
    ) -> Result<Listed> {
        let (mut after, mut at) = (None, exact);
        if !options.continue_token.is_empty() {
            let (start, revision) = decode_token(&options.continue_token, &selection.prefix)?;
            if asked.is_some_and(|v| v != 0) {
                return Err(Error::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            after = Some(start);
            at = revision;
        }
        let limit = if options.limit > 0 {
            options.limit
        } else {
            usize::MAX
        };
        let mut page_size = options.limit;
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        loop {
            let page = self
                .store
                .list(List {
                    prefix: selection.prefix.clone(),
                    after: after.clone(),
                    at: at.map(Revision),
                    limit: (page_size > 0).then_some(page_size),
                })
                .await
                .map_err(|e| {
                    list_error(
                        e,
                        std::str::from_utf8(&selection.prefix).unwrap_or_default(),
                        after.as_ref(),
                    )
                })?;
            let revision = page.revision.0;
            if asked.is_some_and(|asked| asked > revision) {
                return Err(Error::too_large_resource_version(
                    asked.unwrap_or(0),
                    revision,
                ));
            }
            at = Some(revision);
            if entries.is_empty() && !selection.looks_inside() {
                entries.reserve(page.entries.len());
            }
            let (fetched, mut used) = (page.entries.len(), 0);
            for found in &page.entries {
                if entries.len() >= limit {
                    break;
                }
                used += 1;
                after = Some(found.key.clone());
                let entry = Entry::new(found)?;
                if !selection.is_nothing() && selection.matches_inside(row, &entry)? {
                    entries.push(Arc::new(entry));
                }
            }
            let left = page.remaining + (fetched - used);
            if left == 0 {
                return Ok(Listed {
                    entries,
                    revision,
                    continue_token: None,
                    remaining: None,
                });
            }
            if entries.len() >= limit {
                let last = after.as_deref().unwrap_or_default();
                let token = encode_token(
                    last,
                    &selection.prefix,
                    i64::try_from(revision).unwrap_or(i64::MAX),
                );
                let remaining = (!selection.looks_inside()).then_some(left);
                return Ok(Listed {
                    entries,
                    revision,
                    continue_token: Some(token),
                    remaining,
                });
            }
            page_size = (page_size * 2).min(MAX_PAGE);
        }
    }
}

/// Continues after a key, as upstream spells it: from the key's successor.
fn encode_token(last: &[u8], prefix: &[u8], revision: i64) -> String {
    let rest = String::from_utf8_lossy(last.strip_prefix(prefix).unwrap_or(last)).into_owned();
    let token = Token {
        v: "meta.k8s.io/v1".into(),
        rv: revision,
        start: format!("{rest}\0"),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// Reads what Go's decoder reads, which does not look at the bits past the last byte.
const TOKENS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    NO_PAD.with_decode_allow_trailing_bits(true),
);

fn decode_token(token: &str, prefix: &[u8]) -> Result<(Bytes, Option<u64>)> {
    let bad = |why: &str| {
        Error::bad_request(format!(
            "invalid continue token: continue key is not valid{why}"
        ))
    };
    let bytes = TOKENS.decode(token).map_err(|error| {
        // Where Go's decoder says that it gave up.
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(length) => length.saturating_sub(1),
            DecodeError::InvalidPadding => token.find('=').unwrap_or(token.len()),
        };
        bad(&format!(": illegal base64 data at input byte {at}"))
    })?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|e| {
        let text = k8s_model::decode::syntax_error(&bytes);
        bad(&format!(": {}", text.unwrap_or_else(|| e.to_string())))
    })?;
    if token.v != "meta.k8s.io/v1" {
        return Err(bad(&format!(
            ": server does not recognize this encoded version {}",
            token.v
        )));
    }
    if token.rv == 0 {
        return Err(bad(
            ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ));
    }
    let start = token.start.trim_end_matches('\0');
    if start.is_empty() {
        return Err(bad(": encoded start key empty (version meta.k8s.io/v1)"));
    }
    // The token comes from a client: it must not lead out of the range that the client may see.
    if start.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad(&format!(": {}", token.start)));
    }
    let key = Bytes::from([prefix, start.as_bytes()].concat());
    Ok((key, u64::try_from(token.rv).ok()))
}

fn list_error(error: k8s_store::Error, prefix: &str, after: Option<&Bytes>) -> Error {
    match error {
        k8s_store::Error::Compacted { .. } => match after {
            Some(after) => Error::expired_continue(encode_token(after, prefix.as_bytes(), -1)),
            None => Error::expired("The resourceVersion for the provided list is too old."),
        },
        k8s_store::Error::Future { requested, current } => {
            Error::too_large_resource_version(requested.0, current.0)
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_round_trip_and_stay_in_their_range() {
        let token = encode_token(b"/registry/pods/ns/a", b"/registry/pods/", 7);
        assert_eq!(
            decode_token(&token, b"/registry/pods/").unwrap(),
            (Bytes::from_static(b"/registry/pods/ns/a"), Some(7))
        );
        let inconsistent = encode_token(b"/registry/pods/ns/a", b"/registry/pods/", -1);
        assert_eq!(
            decode_token(&inconsistent, b"/registry/pods/").unwrap().1,
            None
        );
        for start in ["../secrets/x", "", "a//b", "/x"] {
            let token = Token {
                v: "meta.k8s.io/v1".into(),
                rv: 7,
                start: start.into(),
            };
            let token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap());
            assert!(decode_token(&token, b"/registry/pods/").is_err(), "{start}");
        }
        for (token, why) in [
            ("!", "illegal base64 data at input byte 0"),
            ("abcde", "illegal base64 data at input byte 4"),
            ("ab==", "illegal base64 data at input byte 2"),
            (
                "zzz",
                "invalid character 'Ï' looking for beginning of value",
            ),
        ] {
            let error = decode_token(token, b"/").unwrap_err().to_string();
            assert!(error.ends_with(why), "{token}: {error}");
        }
    }
}
