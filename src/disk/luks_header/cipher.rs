//! Which names in a LUKS header stand for something that keeps a secret. A list of what is known to, not of what is
//! known not to: the kernel knows the null cipher under several names, ciphers with keys of one byte, and more to come.
//! Knows nothing of where the names come from.

const BLOCK_CIPHERS: [&str; 6] = ["aes", "serpent", "twofish", "camellia", "aria", "sm4"];

/// Initialisation vectors that depend on the sector (dm-crypt's documentation, "IV generators"); `null` does not.
const VECTORS: [&str; 5] = ["plain", "plain64", "plain64be", "benbi", "random"];

/// Names of whole specifications that do not follow the pattern `cipher-chaining-vector`.
const OTHERS: [&str; 5] = [
    "aes-gcm-random",
    "aegis128-random",
    "chacha20-random",
    "xchacha12,aes-adiantum-plain64",
    "xchacha20,aes-adiantum-plain64",
];

const HASHES: [&str; 17] = [
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3-224",
    "sha3-256",
    "sha3-384",
    "sha3-512",
    "ripemd160",
    "rmd160",
    "whirlpool",
    "sm3",
    "stribog256",
    "stribog512",
    "blake2b-512",
    "blake2s-256",
];

/// The shortest key that cannot be guessed, in bytes. Serpent takes one of no bytes at all (`SERPENT_MIN_KEY_SIZE` in
/// the kernel's include/crypto/serpent.h).
pub(super) const SHORTEST_KEY: u64 = 16;

/// Whether `aes-xts-plain64` or the like is an encryption that depends on its key.
pub(super) fn encrypts(specification: &str) -> bool {
    if OTHERS.contains(&specification) {
        return true;
    }
    let mut parts = specification.splitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(cipher), Some("xts" | "cbc" | "lrw"), Some(vector)) => {
            BLOCK_CIPHERS.contains(&cipher) && is_vector(vector)
        }
        // Short for cbc-plain (crypt_parse_name_and_mode in cryptsetup's lib/utils_crypt.c).
        (Some(cipher), Some("plain"), None) => BLOCK_CIPHERS.contains(&cipher),
        _ => false,
    }
}

/// Whether the name is that of a cryptographic hash function.
pub(super) fn hashes(name: &str) -> bool {
    HASHES.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether authenticated encryption's second half is keyed (`--integrity` of cryptsetup(8)).
pub(super) fn authenticates(kind: &str) -> bool {
    let inner = |prefix: &str| kind.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'));
    match (inner("hmac("), inner("cmac(")) {
        (Some(hash), _) => hashes(hash),
        (_, Some(cipher)) => BLOCK_CIPHERS.contains(&cipher),
        _ => matches!(kind, "aead" | "poly1305"),
    }
}

fn is_vector(vector: &str) -> bool {
    VECTORS.contains(&vector) || vector.strip_prefix("essiv:").is_some_and(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_use_is_known() {
        for specification in [
            "aes-xts-plain64",
            "aes-xts-plain",
            "aes-cbc-essiv:sha256",
            "aes-cbc-plain",
            "aes-plain",
            "aes-lrw-benbi",
            "serpent-xts-plain64",
            "twofish-cbc-plain64",
            "camellia-xts-plain64be",
            "aes-xts-random",
            "xchacha20,aes-adiantum-plain64",
            "aegis128-random",
        ] {
            assert!(encrypts(specification), "{specification}");
        }
        assert!(hashes("sha256") && hashes("SHA1") && hashes("whirlpool"));
        assert!(authenticates("hmac(sha256)") && authenticates("aead") && authenticates("cmac(aes)"));
    }

    #[test]
    fn what_keeps_no_secret_is_not() {
        for specification in [
            "",
            "-",
            "null",
            "cipher_null",
            "cipher_null-ecb",
            "cipher_null-cbc-plain",
            "cipher_null-xts-plain64",
            "capi:ecb(cipher_null)",
            "capi:ecb(cipher_null)-plain64",
            "capi:xts(ecb(cipher_null))-plain64",
            "aes-cbc-null",
            "aes-ecb",
            "arc4-ecb",
            "arc4-cbc-plain",
            "aes:64-cbc-lmk",
            "aes-xts-plain64 ",
            "aes-xts-plain64-cipher_null",
            "aes-xts-essiv:crc32",
            "AES-xts-plain64",
        ] {
            assert!(!encrypts(specification), "{specification}");
        }
        assert!(!hashes("crc32") && !hashes("digest_null") && !hashes(""));
        assert!(!authenticates("none") && !authenticates("crc32c") && !authenticates("hmac(digest_null)"));
    }
}
