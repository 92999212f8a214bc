//! Which variant of a function runs: decided by what the processor has, once. The only calls of functions that not every
//! processor can run are here.

use std::sync::OnceLock;

use crate::portable::{self, Shift};

/// A level of instructions that this processor has. There is no other way to get one than to ask for what is there, so that
/// a `Level` is the proof on which the unsafe calls rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Sse2,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

const ALL: &[(Kind, &str)] = &[
    (Kind::Baseline, "baseline"),
    #[cfg(target_arch = "x86_64")]
    (Kind::Sse2, "sse2"),
    #[cfg(target_arch = "x86_64")]
    (Kind::Avx2, "avx2"),
    #[cfg(target_arch = "x86_64")]
    (Kind::Avx512, "avx512"),
    #[cfg(target_arch = "aarch64")]
    (Kind::Neon, "neon"),
];

impl Level {
    /// All levels that this processor has, the fastest last.
    pub fn available() -> impl Iterator<Item = Self> {
        ALL.iter().filter(|(kind, _)| kind.is_present()).map(|&(kind, _)| Self(kind))
    }

    /// The fastest one, or the one that the environment variable `ERASE_CORE_LEVEL` names if it is available.
    #[must_use]
    pub fn detected() -> Self {
        static DETECTED: OnceLock<Level> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let asked = std::env::var("ERASE_CORE_LEVEL").unwrap_or_default();
            let named = Self::available().find(|level| level.name() == asked);
            named.or_else(|| Self::available().last()).unwrap_or(Self(Kind::Baseline))
        })
    }

    /// Its name: `baseline` for code without any assumption, `sse2`, `avx2`, `avx512` or `neon`.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL.iter().find(|&&(kind, _)| kind == self.0).map_or("", |&(_, name)| name)
    }
}

impl Kind {
    fn is_present(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Sse2 => std::arch::is_x86_feature_detected!("sse2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
        }
    }
}

/// Public functions that are the portable ones, compiled for each level.
macro_rules! multiversion {
    ($($(#[$doc:meta])* $name:ident = $at:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?;)*) => { $(
        $(#[$doc])*
        #[inline]
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            $at($crate::Level::detected(), $($arg),*)
        }

        #[doc = concat!("As [`", stringify!($name), "`], at a level that the processor has.")]
        pub fn $at(level: $crate::Level, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $crate::portable::$name($($arg),*)
                }
                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $crate::portable::$name($($arg),*)
                }
                if level.is_avx512() {
                    // SAFETY: the level is the proof that the processor has these features.
                    return unsafe { avx512($($arg),*) };
                }
                if level.is_avx2() {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            // The vectors of an aarch64 are part of its baseline.
            let _ = level;
            $crate::portable::$name($($arg),*)
        }
    )* };
}
pub(crate) use multiversion;

#[cfg(target_arch = "x86_64")]
impl Level {
    pub(crate) fn is_avx2(self) -> bool {
        self.0 == Kind::Avx2
    }

    pub(crate) fn is_avx512(self) -> bool {
        self.0 == Kind::Avx512
    }
}

/// Lengths are checked by the caller, `crate::keys_at`.
pub(crate) fn keys(level: Level, block: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
    match level.0 {
        Kind::Baseline => portable::keys(block, vectors, biases, out),
        // SAFETY: the level is the proof of the features, the caller has checked the lengths.
        #[cfg(target_arch = "x86_64")]
        Kind::Sse2 => unsafe { crate::x86::keys_sse2(block, vectors, biases, out) },
        // SAFETY: the level is the proof of the features, the caller has checked the lengths.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { crate::x86::keys_avx2(block, vectors, biases, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { crate::x86::keys_avx512(block, vectors, biases, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { crate::neon::keys(block, vectors, biases, out) },
    }
}

/// Lengths are checked by the caller, `crate::shift_keys_at`.
pub(crate) fn shift_keys(level: Level, block: &[i16], shifts: &[Shift], keys: &mut [u32]) {
    match level.0 {
        Kind::Baseline => portable::shift_keys(block, shifts, keys),
        // SAFETY: the level is the proof of the features, the caller has checked the lengths.
        #[cfg(target_arch = "x86_64")]
        Kind::Sse2 => unsafe { crate::x86::shift_keys_sse2(block, shifts, keys) },
        // SAFETY: the level is the proof of the features, the caller has checked the lengths.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { crate::x86::shift_keys_avx2(block, shifts, keys) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { crate::x86::shift_keys_avx512(block, shifts, keys) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { crate::neon::shift_keys(block, shifts, keys) },
    }
}
