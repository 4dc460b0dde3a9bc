//! The component's side of the world `key-extractor`. Only built for wasm32, with the feature of that name: a module is
//! of one world, so the other's bindings must not be in it.

#![expect(missing_docs, reason = "generated; the WIT is the documentation")]

use crate::extractor::{KeyExtractor, Packed, Settings, extract_batch};
use std::cell::RefCell;

wit_bindgen::generate!({
    path: "wit",
    world: "key-extractor",
    ownership: Borrowing { duplicate_if_necessary: true },
    pub_export_macro: true,
    default_bindings_module: "headwater_guest_sdk::extractor_abi",
});

/// The one instance of the component.
pub type Slot<E> = RefCell<Option<E>>;

/// `init` of the world.
pub fn init<E: KeyExtractor>(slot: &Slot<E>, settings: Vec<Setting>) -> Result<(), String> {
    let settings = Settings::new(settings.into_iter().map(|Setting { name, value }| (name, value)));
    slot.replace(Some(E::init(&settings)?));
    Ok(())
}

/// `extract` of the world.
pub fn extract<E: KeyExtractor>(slot: &Slot<E>, batch: &InputBatch) -> Result<Verdicts, String> {
    let slot = slot.borrow();
    let extractor = slot.as_ref().ok_or("the host called before init had succeeded")?;
    let place = (batch.partition, batch.base_offset);
    let Packed { index, data } = extract_batch(extractor, place, &batch.index, &batch.data)?;
    Ok(Verdicts { index, data })
}

/// What [`export_key_extractor!`](crate::export_key_extractor) expands to for wasm32. A module, because the generated
/// macro looks for the component in the module above its own.
#[macro_export]
macro_rules! export_key_extractor_component {
    ($extractor:ty) => {
        type HeadwaterKeyExtractor = $extractor;
        mod headwater_component {
            ::std::thread_local! {
                static SLOT: $crate::extractor_abi::Slot<super::HeadwaterKeyExtractor> =
                    const { ::std::cell::RefCell::new(None) };
            }
            struct Component;
            impl $crate::extractor_abi::Guest for Component {
                fn init(
                    settings: ::std::vec::Vec<$crate::extractor_abi::Setting>,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    SLOT.with(|slot| $crate::extractor_abi::init(slot, settings))
                }
                fn extract(
                    batch: $crate::extractor_abi::InputBatch,
                ) -> ::std::result::Result<$crate::extractor_abi::Verdicts, ::std::string::String> {
                    SLOT.with(|slot| $crate::extractor_abi::extract(slot, &batch))
                }
            }
            $crate::extractor_abi::export!(Component with_types_in $crate::extractor_abi);
        }
    };
}
