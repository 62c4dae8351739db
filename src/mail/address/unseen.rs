//! The characters that show nothing: those that programs leave out where they can't show them (Unicode's Default_Ignorable_Code_Point), the format
//! characters that are not among them, and blanks that are no white space to Unicode.
//!
//! Never: white space, which shows as a gap.

/// Whether this shows nothing of its own.
pub(crate) fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        // Soft hyphen; grapheme joiner; Arabic letter mark; Hangul fillers; Khmer inherent vowels; Mongolian selectors and separator.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        // Zero width space and joiners, marks, embeddings, overrides and isolates of direction, word joiner and its kin.
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // The braille pattern without dots; Hangul fillers; variation selectors; byte order mark; annotation.
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        // Format of hieroglyphs, Khitan filler, shorthand and music.
        | '\u{13430}'..='\u{1343f}' | '\u{16fe4}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}'
        // Tags, variation selectors, and what is kept free for more of them.
        | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_something_is_seen() {
        for letter in ['a', ' ', '\u{a0}', '-', '\u{2010}', '\u{301}', '\u{600}', '\u{fffc}', '\u{fffd}', '\u{2801}'] {
            assert!(!is_unseen(letter), "U+{:04X}", u32::from(letter));
        }
        for letter in ['\u{ad}', '\u{200d}', '\u{202e}', '\u{2800}', '\u{feff}', '\u{1bca0}', '\u{e0080}'] {
            assert!(is_unseen(letter), "U+{:04X}", u32::from(letter));
        }
    }
}
