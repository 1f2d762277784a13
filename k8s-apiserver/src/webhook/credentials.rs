//! [`Credentials`]: what a client of a webhook shows as `Authorization`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a token of a file is good: upstream's minute (client-go's `transport/token_source.go`), less the ten seconds
/// before its end in which it is read again.
const PERIOD: Duration = Duration::from_secs(50);

/// What is sent as `Authorization`.
#[derive(Clone)]
pub(crate) enum Credentials {
    /// Always the same.
    Fixed(HeaderValue),
    /// A token that somebody renews.
    File(Arc<TokenFile>),
}

/// A file with a token.
pub(crate) struct TokenFile {
    path: PathBuf,
    /// What was read last, and when that was tried.
    known: Mutex<(HeaderValue, Instant)>,
}

impl Credentials {
    /// What is in a header already.
    pub(super) fn fixed(text: &str) -> Result<Self, String> {
        header(text).map(Credentials::Fixed)
    }

    /// Those of a file with a token, which is read now and later again.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Credentials::File(Arc::new(TokenFile {
            path: path.to_owned(),
            known: Mutex::new((bearer(&text)?, Instant::now())),
        })))
    }

    /// The header as it is now.
    pub(super) async fn now(&self) -> HeaderValue {
        match self {
            Credentials::Fixed(value) => value.clone(),
            Credentials::File(file) => file.token().await,
        }
    }
}

impl TokenFile {
    async fn token(&self) -> HeaderValue {
        {
            let mut known = self.known.lock();
            if known.1.elapsed() < PERIOD {
                return known.0.clone();
            }
            // One reads it, the others go on with what they have.
            known.1 = Instant::now();
        }
        let read = tokio::fs::read_to_string(&self.path).await;
        let read = read.map_err(|e| e.to_string());
        let mut known = self.known.lock();
        match read.and_then(|text| bearer(&text)) {
            Ok(value) => known.0 = value,
            Err(error) => {
                tracing::error!(error, path = %self.path.display(), "a token cannot be read again");
            }
        }
        known.0.clone()
    }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    match token.trim() {
        "" => Err("the file of the token is empty".to_owned()),
        token => header(&format!("Bearer {token}")),
    }
}

fn header(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| "the credentials are no header")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_read_again_and_kept_where_it_cannot_be() {
        let path = std::env::temp_dir().join(format!("token-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "one\n").unwrap();
        let credentials = Credentials::of_file(&path).unwrap();
        assert_eq!(credentials.now().await, "Bearer one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(credentials.now().await, "Bearer one");
        tokio::time::advance(PERIOD).await;
        assert_eq!(credentials.now().await, "Bearer two");
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(PERIOD).await;
        assert_eq!(credentials.now().await, "Bearer two");
        assert!(Credentials::of_file(&path).is_err());
    }
}
