//! What every image service promises.

use super::Fixture;
use crate::Error;

pub async fn an_image_is_found_by_each_of_its_names(f: &Fixture) {
    let names = [&f.image.id]
        .into_iter()
        .chain(&f.image.repo_tags)
        .chain(&f.image.repo_digests);
    for name in names {
        let found = f.images.image(name).await.expect("an answer");
        assert_eq!(found.as_ref(), Some(&f.image), "{name}");
    }
    assert_eq!(
        f.images.images().await.expect("a list"),
        std::slice::from_ref(&f.image)
    );
}

pub async fn an_image_that_is_not_there_is_none(f: &Fixture) {
    let id = format!("sha256:{}", "0".repeat(64));
    for name in ["no-such-image", "example.test/none:1", &id] {
        assert_eq!(
            f.images.image(name).await.expect("an answer"),
            None,
            "{name}"
        );
    }
}

pub async fn a_bad_reference_is_refused(f: &Fixture) {
    for bad in ["", "UPPER", "a b", "x:y:z/w"] {
        assert!(
            matches!(
                f.images.image(bad).await,
                Err(Error::InvalidReference { .. })
            ),
            "{bad}"
        );
        assert!(
            matches!(
                f.images.pull(bad, None).await,
                Err(Error::InvalidReference { .. })
            ),
            "{bad}"
        );
    }
}

pub async fn removing_an_image_is_idempotent(f: &Fixture) {
    for _ in 0..2 {
        f.images.remove(&f.image.id).await.expect("a removal");
    }
    assert_eq!(f.images.image(&f.image.id).await.expect("an answer"), None);
    assert!(f.images.images().await.expect("a list").is_empty());
}
