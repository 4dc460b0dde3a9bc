//! Which version of each api both sides speak. Pure.

use headwater_protocol::messages::ApiKey;
use std::collections::BTreeMap;

/// Apis without which a connection is of no use; a broker that lacks one is refused when it is greeted.
const NEEDED: [ApiKey; 6] =
    [ApiKey::Hello, ApiKey::Metadata, ApiKey::Produce, ApiKey::Fetch, ApiKey::ListOffsets, ApiKey::InitProducerId];

/// For each api that both sides know, the version ranges' overlap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions(BTreeMap<ApiKey, (u16, u16)>);

impl Versions {
    /// What this client offers in its hello.
    pub(crate) fn offered() -> Vec<(u16, u16, u16)> {
        ApiKey::SUPPORTED.iter().map(|(api, low, high)| (*api as u16, *low, *high)).collect()
    }

    /// The overlap of `ours` and `theirs`, or what is missing, in words. Apis this client doesn't know are nothing to
    /// it; of several ranges for one api the first counts.
    pub(crate) fn agree(ours: &[(ApiKey, u16, u16)], theirs: &[(u16, u16, u16)]) -> Result<Self, String> {
        let mut agreed = BTreeMap::new();
        for (api, low, high) in ours {
            let range = theirs.iter().find(|(number, ..)| *number == *api as u16);
            match range.map(|(_, their_low, their_high)| ((*low).max(*their_low), (*high).min(*their_high))) {
                Some((low, high)) if low <= high => {
                    agreed.insert(*api, (low, high));
                }
                _ if NEEDED.contains(api) => {
                    let theirs = range.map_or("none".to_owned(), |(_, low, high)| format!("{low} to {high}"));
                    return Err(format!(
                        "a version of {api:?} that this client does ({low} to {high}; the broker: {theirs})"
                    ));
                }
                _ => {}
            }
        }
        Ok(Self(agreed))
    }

    /// Whether both sides speak exactly this version.
    pub(crate) fn speaks(&self, api: ApiKey, version: u16) -> bool {
        self.0.get(&api).is_some_and(|(low, high)| (*low..=*high).contains(&version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlap_is_spoken_and_nothing_else() {
        let ours: Vec<_> = ApiKey::SUPPORTED.iter().map(|(api, ..)| (*api, 1, 3)).collect();
        let theirs: Vec<_> = ApiKey::SUPPORTED.iter().map(|(api, ..)| (*api as u16, 2, 9)).collect();
        let versions = Versions::agree(&ours, &theirs).unwrap();
        let spoken: Vec<bool> = (0..5).map(|version| versions.speaks(ApiKey::Fetch, version)).collect();
        assert_eq!(spoken, [false, false, true, true, false]);
    }

    #[test]
    fn a_broker_without_the_data_path_is_refused_and_one_without_modules_is_not() {
        let without = |missing: ApiKey| -> Vec<_> {
            Versions::offered().into_iter().filter(|(api, ..)| *api != missing as u16).collect()
        };
        let refused = Versions::agree(ApiKey::SUPPORTED, &without(ApiKey::Produce)).unwrap_err();
        assert!(refused.contains("Produce") && refused.contains("none"), "{refused}");
        let versions = Versions::agree(ApiKey::SUPPORTED, &without(ApiKey::UploadModule)).unwrap();
        assert!(!versions.speaks(ApiKey::UploadModule, 0));
        assert!(versions.speaks(ApiKey::Produce, 0));
    }

    #[test]
    fn disjoint_and_reversed_ranges_are_refused() {
        let theirs: Vec<_> = ApiKey::SUPPORTED.iter().map(|(api, ..)| (*api as u16, 5, 9)).collect();
        assert!(Versions::agree(ApiKey::SUPPORTED, &theirs).unwrap_err().contains("5 to 9"));
        let reversed: Vec<_> = ApiKey::SUPPORTED.iter().map(|(api, ..)| (*api as u16, 9, 0)).collect();
        assert!(Versions::agree(&[(ApiKey::Produce, 1, 2)], &reversed).is_err());
    }
}
