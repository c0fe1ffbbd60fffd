//! A mix of presets, shared out.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::file::Mix;
use crate::preset::Preset;

/// `count` presets in the proportion of their weights, in an order that the seed decides.
///
/// Shared out by largest remainders (Hamilton's method): each preset gets its share rounded down, the
/// rest go to the largest remainders, the first of equals first. `group` gives each group of volunteers
/// an order of its own.
pub(super) fn share_out(mix: &Mix, count: u32, seed: u64, group: usize) -> Vec<Preset> {
    let sum: u64 = mix.values().map(|weight| u64::from(weight.number())).sum();
    let mut shares: Vec<(Preset, u64, u64)> = Vec::new();
    for (preset, weight) in mix {
        let product = u64::from(count) * u64::from(weight.number());
        shares.push((*preset, product / sum.max(1), product % sum.max(1)));
    }
    let given: u64 = shares.iter().map(|(_, share, _)| share).sum();
    let rest = usize::try_from(u64::from(count).saturating_sub(given)).unwrap_or(0);
    // A stable sort keeps the order of equal remainders.
    shares.sort_by_key(|(_, _, remainder)| std::cmp::Reverse(*remainder));
    for (_, share, _) in shares.iter_mut().take(rest) {
        *share += 1;
    }
    shares.sort_by_key(|(preset, ..)| *preset);
    let several = |(preset, share, _): (Preset, u64, u64)| (0..share).map(move |_| preset);
    let mut presets: Vec<Preset> = shares.into_iter().flat_map(several).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(group as u64);
    presets.shuffle(&mut rng);
    presets
}
