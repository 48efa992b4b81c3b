//! Which calls are made at the same time: every call once in a company of two, and of sixteen, in several orders.

use crate::calls::{Case, Entry};
use crate::exceptions;
use crate::image::Disk;
use crate::place::SEATS;

/// Companies of `size` different calls, such that each call is in one company of each of `rounds` orders.
pub(crate) fn companies(cases: &[Case], size: usize, rounds: usize) -> Vec<Vec<Case>> {
    assert!(size <= SEATS, "there are files for {SEATS} processes");
    let fit: Vec<Case> = cases
        .iter()
        .filter(|case| {
            case.entry == Entry::Enters && case.disk == Disk::Open && exceptions::of(case.name).is_none()
        })
        .copied()
        .collect();
    // A stride that has no common factor with the number of calls visits each once, and each order has other neighbours.
    let strides = (fit.len() / size..).filter(|stride| common_factor(*stride, fit.len()) == 1).take(rounds);
    strides
        .flat_map(|stride| {
            let order: Vec<Case> = (0..fit.len()).map(|step| fit[step * stride % fit.len()]).collect();
            let whole = order.len() / size * size;
            let mut companies: Vec<Vec<Case>> = order[..whole].chunks(size).map(<[Case]>::to_vec).collect();
            if whole < order.len() {
                companies.push(order[order.len() - size..].to_vec());
            }
            companies
        })
        .collect()
}

fn common_factor(left: usize, right: usize) -> usize {
    if right == 0 { left } else { common_factor(right, left % right) }
}
