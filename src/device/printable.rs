//! Strings from devices, made fit for a terminal, a log line or a table.

/// The same text with every character that a terminal would obey or hide (control, bidirectional override,
/// zero width, line separator, unassigned) written as `\n`, `\u{202e}`, …. Other characters, the backslash and
/// quotes too, stay as they are, so that an id can be copied from what is shown.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '\'' | '"' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_can_be_read_stays_and_the_rest_is_escaped() {
        for readable in ["WDC_WD20-0:0", r"a\x2fb", "\"it's\"", "Größe 日本", "a/../b", "\u{fffd}"] {
            assert_eq!(printable(readable), readable);
        }
        assert_eq!(printable("a\nb\u{1b}[2J\0"), "a\\nb\\u{1b}[2J\\0");
        assert_eq!(printable("x\u{202e}gnp\u{200b}\u{2028}"), "x\\u{202e}gnp\\u{200b}\\u{2028}");
    }

    proptest! {
        #[test]
        fn nothing_shown_is_a_control_character(text in any::<String>()) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(printable(&shown), shown.clone());
        }
    }
}
