//! Addresses: kept as they are written; two ways to write one compare as one, and no two as one that were two.

use sealpost::mail::{Address, AddressFault, CanonicalAddress, LocalPartCase};

use super::{Broken, Lie, Told, is_sayable, require, same};

/// [`Address`] and the form by which it compares.
pub(super) fn address(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let Ok(text) = std::str::from_utf8(octets) else { return Ok(()) };
    let address = match Address::parse(if lie == Lie::AddressTrims { text.trim() } else { text }) {
        Ok(address) => address,
        Err(fault) => return require("a fault in words that can't be said", is_sayable(&fault.to_string())),
    };
    same("the address as written", &address.as_str(), &text)?;
    require("an address too long, or with controls", text.len() <= 254 && !text.chars().any(char::is_control))?;
    for case in [LocalPartCase::Ignored, LocalPartCase::Exact] {
        let canonical = canonical(&address, case, lie);
        read_again(&canonical, case, lie)?;
        let plain = !address.local_part().starts_with('"');
        let quoted = format!("\"{}\"@{}", address.local_part(), address.host());
        if let (true, Ok(quoted)) = (plain, Address::parse(&quoted)) {
            same("the same in quotes", &super::address::canonical(&quoted, case, lie), &canonical)?;
        }
        // What composes may take letters away, never bring some.
        for letter in (0..=127_u8).map(char::from).filter(char::is_ascii_punctuation) {
            let count = |text: &str| text.chars().filter(|one| *one == letter).count();
            require("a sign that was not there", count(&canonical.local) <= count(address.local_part()))?;
        }
    }
    let capitals = Address::parse(&text.to_ascii_uppercase());
    let of = |address: &Address| canonical(address, LocalPartCase::Ignored, lie);
    match capitals {
        Ok(capitals) if text.is_ascii() => same("the same in capitals", &of(&capitals), &of(&address)),
        _ => Ok(()),
    }
}

fn canonical(address: &Address, case: LocalPartCase, lie: Lie) -> CanonicalAddress {
    let canonical = address.canonical(case);
    match lie {
        Lie::AddressMindsQuotes => CanonicalAddress { local: address.local_part().to_lowercase(), ..canonical },
        _ => canonical,
    }
}

/// Made again from its own text, it stays the same.
fn read_again(canonical: &CanonicalAddress, case: LocalPartCase, lie: Lie) -> Told {
    match Address::parse(&canonical.to_string()) {
        Ok(again) => same("read again", &super::address::canonical(&again, case, lie), canonical),
        // A-labels are longer than U-labels, and some letters are written with more in their normal form.
        Err(AddressFault::TooLong | AddressFault::LocalPartTooLong | AddressFault::DomainTooLong) => Ok(()),
        Err(fault) => Err(Broken(format!("{canonical}, a form to compare, is none: {fault}"))),
    }
}
