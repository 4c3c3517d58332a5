//! How an amount is shared out among the legs of a payment.
//!
//! Invariant: the shares of an amount sum to it exactly, and none is more than is left of its leg.

use smallvec::SmallVec;

use super::{Payment, PaymentLeg};
use crate::contract::Rejection;

/// Why an amount can't be shared out.
pub(super) enum Short {
    /// It is more than is left.
    By(Rejection),
    /// It can't be asked for in this way.
    Wrong(Rejection),
}

/// Returns the legs that take part, each with its share: all that is left of it, or its part of `amount` in
/// proportion to what is left.
pub(super) fn shares(
    payment: &Payment,
    amount: Option<i64>,
    leg: Option<u8>,
    left: impl Fn(&PaymentLeg) -> i64,
) -> Result<SmallVec<[(u8, i64); 1]>, Short> {
    let mut chosen: SmallVec<[(u8, &PaymentLeg); 1]> = (0..).zip(&payment.legs).collect();
    if let Some(named) = leg {
        chosen.retain(|(ix, _)| *ix == named);
        if chosen.is_empty() {
            return Err(Short::Wrong(Rejection::LegNotFound));
        }
    }
    let lefts: SmallVec<[i64; 1]> = chosen.iter().map(|(_, leg)| left(leg)).collect();
    let total: i64 = lefts.iter().sum();
    let parts = match amount {
        Some(_) if chosen.iter().any(|(_, leg)| leg.currency != chosen[0].1.currency) => {
            return Err(Short::Wrong(Rejection::LegRequired));
        }
        Some(amount) if amount > total => return Err(Short::By(Rejection::AmountExceedsRemaining)),
        None if total == 0 => return Err(Short::By(Rejection::AmountExceedsRemaining)),
        Some(amount) => in_proportion(amount, &lefts),
        None => lefts,
    };
    Ok(chosen.iter().map(|(ix, _)| *ix).zip(parts).filter(|(_, amount)| *amount > 0).collect())
}

/// `amount` in proportion to `left`, in whole minor units that sum to `amount` exactly, and of none
/// more than is left of it: each share is rounded down, and the units that remain go, one each, to
/// the shares that lost most by it; of equal ones to the first.
///
/// `amount` is at most the sum of `left`, and that isn't zero.
pub(super) fn in_proportion(amount: i64, left: &[i64]) -> SmallVec<[i64; 1]> {
    if let [_] = left {
        return SmallVec::from_slice(&[amount]);
    }
    let total: i128 = left.iter().copied().map(i128::from).sum();
    let exact = |left: i64| i128::from(amount) * i128::from(left);
    // No larger than `left`, which is 64 bits wide.
    let mut shares: SmallVec<[i64; 1]> =
        left.iter().map(|left| i64::try_from(exact(*left) / total).unwrap_or(*left)).collect();
    let mut by_loss: Vec<usize> = (0..left.len()).collect();
    by_loss.sort_by_key(|ix| std::cmp::Reverse(exact(left[*ix]) % total));
    let mut missing = amount - shares.iter().sum::<i64>();
    for ix in by_loss {
        if missing == 0 {
            break;
        }
        shares[ix] += 1;
        missing -= 1;
    }
    shares
}
