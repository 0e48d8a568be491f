//! Digits of doubles by Grisu2, the algorithm of Nix's JSON library: shortest digits in all but one of seven hundred cases, and
//! then one digit more. After F. Loitsch, "Printing floating-point numbers quickly and accurately with integers" (PLDI 2010).

/// Binary exponents of scaled numbers lie between these: their integral part then fits 32 bits.
const EXPONENT_MIN: i32 = -60;
/// Decimal exponents of the powers of ten that there are.
const POWER_FIRST: i32 = -300;
const POWER_STEP: i32 = 8;
/// Exponent of the unit of a double's significand, without its bias.
const BIAS: i32 = 1075;
const SIGNIFICAND_BITS: u32 = 52;

/// An unsigned number with 64 bits: `significand * 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scaled {
    significand: u64,
    exponent: i32,
}

impl Scaled {
    fn normal(self) -> Self {
        let shift = self.significand.leading_zeros();
        Self { significand: self.significand << shift, exponent: self.exponent - shift.cast_signed() }
    }

    /// The product, rounded to 64 bits, halves up.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.significand) * u128::from(other.significand) + (1 << 63);
        let significand = u64::try_from(product >> 64).unwrap_or(u64::MAX);
        Self { significand, exponent: self.exponent + other.exponent + 64 }
    }
}

/// A positive, finite double: its digits, and the decimal exponent of the last one.
pub fn digits(value: f64) -> (Vec<u8>, i32) {
    let (low, exact, high) = boundaries(value);
    let (power, decimal) = power_for(high.exponent);
    let [low, exact, high] = [low, exact, high].map(|bound| bound.times(power));
    // Products may be wrong by one unit: what is printed has to lie inside for sure.
    generate(low.significand + 1, exact.significand, high.significand - 1, high.exponent, -decimal)
}

/// The number and the middles between it and its neighbours, all with one exponent.
fn boundaries(value: f64) -> (Scaled, Scaled, Scaled) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << SIGNIFICAND_BITS) - 1);
    let biased = i32::try_from((bits >> SIGNIFICAND_BITS) & 0x7ff).unwrap_or_default();
    let (significand, exponent) = match biased {
        0 => (fraction, 1 - BIAS),
        _ => (fraction | (1 << SIGNIFICAND_BITS), biased - BIAS),
    };
    let high = Scaled { significand: 2 * significand + 1, exponent: exponent - 1 }.normal();
    // Below a power of two neighbours are twice as close.
    let low = if fraction == 0 && biased > 1 {
        Scaled { significand: 4 * significand - 1, exponent: exponent - 2 }
    } else {
        Scaled { significand: 2 * significand - 1, exponent: exponent - 1 }
    };
    let shift = low.exponent - high.exponent;
    let low = Scaled { significand: low.significand << shift, exponent: high.exponent };
    (low, Scaled { significand, exponent }.normal(), high)
}

/// A power of ten that scales numbers with this binary exponent into range, and its decimal exponent.
fn power_for(exponent: i32) -> (Scaled, i32) {
    // The logarithm of two as a fraction.
    let missing = EXPONENT_MIN - exponent - 1;
    let decimal = missing * 78_913 / (1 << 18) + i32::from(missing > 0);
    let index = (decimal - POWER_FIRST + POWER_STEP - 1) / POWER_STEP;
    let decimal = POWER_FIRST + index * POWER_STEP;
    let significand = usize::try_from(index).ok().and_then(|index| POWERS.get(index)).copied().unwrap_or(0);
    // The binary exponent of a power of ten, from the logarithm of ten as a fraction.
    let binary = ((i64::from(decimal) * 1_741_647) >> 19) - 63;
    (Scaled { significand, exponent: i32::try_from(binary).unwrap_or(0) }, decimal)
}

/// Digits of the upper bound until what is left is less than the distance to the lower one.
fn generate(low: u64, exact: u64, high: u64, exponent: i32, mut decimal: i32) -> (Vec<u8>, i32) {
    let (mut delta, mut distance) = (high - low, high - exact);
    let bits = exponent.unsigned_abs();
    let unit = 1_u64 << bits;
    let (mut whole, mut part) = (high >> bits, high & (unit - 1));
    let mut digits = Vec::with_capacity(17);
    let mut place = 10_u64.pow(whole.checked_ilog10().unwrap_or(0));
    for left in (0..=whole.checked_ilog10().unwrap_or(0)).rev() {
        digits.push(digit(whole / place));
        whole %= place;
        let rest = (whole << bits) + part;
        if rest <= delta {
            decimal += left.cast_signed();
            round(&mut digits, distance, delta, rest, place << bits);
            return (digits, decimal);
        }
        place /= 10;
    }
    loop {
        part *= 10;
        digits.push(digit(part >> bits));
        part &= unit - 1;
        decimal -= 1;
        delta *= 10;
        distance *= 10;
        if part <= delta {
            round(&mut digits, distance, delta, part, unit);
            return (digits, decimal);
        }
    }
}

fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value).unwrap_or_default()
}

/// Lowers the last digit as long as that comes closer to the number.
fn round(digits: &mut [u8], distance: u64, delta: u64, mut rest: u64, place: u64) {
    let Some(last) = digits.last_mut() else { return };
    while rest < distance
        && delta - rest >= place
        && (rest + place < distance || distance - rest > rest + place - distance)
    {
        *last -= 1;
        rest += place;
    }
}

/// The upper 64 bits of 10^-300, 10^-292, ... 10^324, rounded.
#[rustfmt::skip]
const POWERS: [u64; 79] = [
    0xab70fe17c79ac6ca, 0xff77b1fcbebcdc4f, 0xbe5691ef416bd60c, 0x8dd01fad907ffc3c, 0xd3515c2831559a83, 0x9d71ac8fada6c9b5,
    0xea9c227723ee8bcb, 0xaecc49914078536d, 0x823c12795db6ce57, 0xc21094364dfb5637, 0x9096ea6f3848984f, 0xd77485cb25823ac7,
    0xa086cfcd97bf97f4, 0xef340a98172aace5, 0xb23867fb2a35b28e, 0x84c8d4dfd2c63f3b, 0xc5dd44271ad3cdba, 0x936b9fcebb25c996,
    0xdbac6c247d62a584, 0xa3ab66580d5fdaf6, 0xf3e2f893dec3f126, 0xb5b5ada8aaff80b8, 0x87625f056c7c4a8b, 0xc9bcff6034c13053,
    0x964e858c91ba2655, 0xdff9772470297ebd, 0xa6dfbd9fb8e5b88f, 0xf8a95fcf88747d94, 0xb94470938fa89bcf, 0x8a08f0f8bf0f156b,
    0xcdb02555653131b6, 0x993fe2c6d07b7fac, 0xe45c10c42a2b3b06, 0xaa242499697392d3, 0xfd87b5f28300ca0e, 0xbce5086492111aeb,
    0x8cbccc096f5088cc, 0xd1b71758e219652c, 0x9c40000000000000, 0xe8d4a51000000000, 0xad78ebc5ac620000, 0x813f3978f8940984,
    0xc097ce7bc90715b3, 0x8f7e32ce7bea5c70, 0xd5d238a4abe98068, 0x9f4f2726179a2245, 0xed63a231d4c4fb27, 0xb0de65388cc8ada8,
    0x83c7088e1aab65db, 0xc45d1df942711d9a, 0x924d692ca61be758, 0xda01ee641a708dea, 0xa26da3999aef774a, 0xf209787bb47d6b85,
    0xb454e4a179dd1877, 0x865b86925b9bc5c2, 0xc83553c5c8965d3d, 0x952ab45cfa97a0b3, 0xde469fbd99a05fe3, 0xa59bc234db398c25,
    0xf6c69a72a3989f5c, 0xb7dcbf5354e9bece, 0x88fcf317f22241e2, 0xcc20ce9bd35c78a5, 0x98165af37b2153df, 0xe2a0b5dc971f303a,
    0xa8d9d1535ce3b396, 0xfb9b7cd9a4a7443c, 0xbb764c4ca7a44410, 0x8bab8eefb6409c1a, 0xd01fef10a657842c, 0x9b10a4e5e9913129,
    0xe7109bfba19c0c9d, 0xac2820d9623bf429, 0x80444b5e7aa7cf85, 0xbf21e44003acdd2d, 0x8e679c2f5e44ff8f, 0xd433179d9c8cb841,
    0x9e19db92b4e31ba9,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_real_nix() {
        for (value, expected, exponent) in [
            (1.0, "1", 0),
            (0.1, "1", -1),
            (5e-324, "5", -324),
            (f64::MAX, "17976931348623157", 292),
            (f64::MIN_POSITIVE, "22250738585072014", -324),
            (9_007_199_254_740_993.0, "9007199254740992", 0),
            // One digit more than needed.
            (1e23, "9999999999999999", 7),
            (2.315_937_287_738_532e-7, "23159372877385319", -23),
            (2.951_749_533_409_803e16, "29517495334098032", 0),
            (3.004_778_152_164_068e-302, "30047781521640683", -318),
        ] {
            let (digits, decimal) = digits(value);
            assert_eq!(
                (String::from_utf8_lossy(&digits).as_ref(), decimal),
                (expected, exponent),
                "{value:e}"
            );
        }
    }

    #[test]
    fn digits_always_mean_the_same_number() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(state >> 1);
            if value.is_finite() && value > 0.0 {
                let (digits, decimal) = digits(value);
                let text = format!("{}e{decimal}", String::from_utf8_lossy(&digits));
                assert_eq!(text.parse::<f64>().ok(), Some(value), "{text}");
            }
        }
    }
}
