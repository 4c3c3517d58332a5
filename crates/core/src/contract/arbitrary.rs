//! Any task that can be written, for property tests.

use compact_str::CompactString;
use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::decode::{FIRST_YEAR, LAST_YEAR};
use super::{
    AccountChange, AccountName, Action, Authorize, ChangeAccount, Currency, FollowUp, Leg, OpenAccount, SetLimits,
    Split, Task, TaskBody, Terms, Transfer, When, canonical_metadata, is_unset,
};

/// A task of any type.
pub(super) fn task() -> impl Strategy<Value = Task> {
    let when = (option::of(moment()), option::of(any::<u128>()));
    (any::<u128>(), when, body())
        .prop_map(|(id, (execute_at, after), mut body)| {
            // No task refers to itself: two ids differ where the difference isn't nothing.
            let other = |difference: u128| Uuid::from_u128(id ^ difference.max(1));
            if let TaskBody::FollowUp(follow_up) = &mut body {
                follow_up.payment_id = other(follow_up.payment_id.as_u128());
            }
            Task::timed(Uuid::from_u128(id), When { execute_at, after: after.map(other) }, body)
        })
        .prop_filter("an id that nobody has set", |task| !task.refers_to().chain([task.id]).any(is_unset))
}

fn moment() -> impl Strategy<Value = Timestamp> {
    let start = |year| date(year, 1, 1).to_zoned(TimeZone::UTC).expect("in range").timestamp().as_microsecond();
    (start(FIRST_YEAR)..start(LAST_YEAR + 1)).prop_map(|micros| Timestamp::from_microsecond(micros).expect("in range"))
}

fn body() -> impl Strategy<Value = TaskBody> {
    prop_oneof![
        (account(), currency(), option::of(any::<i64>())).prop_map(|(account, currency, min_balance)| {
            TaskBody::OpenAccount(OpenAccount { account, currency, min_balance })
        }),
        (leg(), notes()).prop_map(|(leg, (reference, metadata))| {
            let Leg { debit_account, credit_account, amount, currency } = leg;
            TaskBody::Transfer(Transfer { debit_account, credit_account, amount, currency, reference, metadata })
        }),
        (legs(), notes()).prop_map(|(legs, (reference, metadata))| TaskBody::Split(Split {
            legs,
            reference,
            metadata
        })),
        (terms(), option::of(1..=u32::MAX), notes()).prop_map(|(terms, expires_in, (reference, metadata))| {
            TaskBody::Authorize(Authorize { terms, expires_in, reference, metadata })
        }),
        (any::<u128>(), action(), notes()).prop_map(|(payment_id, action, (reference, metadata))| {
            let payment_id = Uuid::from_u128(payment_id);
            TaskBody::FollowUp(FollowUp { payment_id, action, reference, metadata })
        }),
        (account(), change()).prop_map(|(account, change)| TaskBody::ChangeAccount(ChangeAccount { account, change })),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let (amount, leg) = (option::of(any::<i64>()), option::of(0..Leg::MOST as u8));
    prop_oneof![
        (amount.clone(), leg.clone(), any::<bool>()).prop_map(|(amount, leg, is_final)| Action::Capture {
            amount,
            leg,
            is_final
        }),
        Just(Action::Void),
        (amount, leg.clone()).prop_map(|(amount, leg)| Action::Refund { amount, leg }),
        (any::<i64>(), leg.clone()).prop_map(|(amount, leg)| Action::Chargeback { amount, leg }),
        (any::<i64>(), leg).prop_map(|(amount, leg)| Action::ChargebackReversal { amount, leg }),
        Just(Action::Cancel),
    ]
}

fn change() -> impl Strategy<Value = AccountChange> {
    let limit = option::of(any::<i64>());
    let limits = prop_oneof![
        limit.clone().prop_map(|limit| (Some(limit), None)),
        limit.clone().prop_map(|limit| (None, Some(limit))),
        (limit.clone(), limit).prop_map(|(min, max)| (Some(min), Some(max))),
    ];
    prop_oneof![
        Just(AccountChange::Close),
        Just(AccountChange::Freeze),
        Just(AccountChange::Unfreeze),
        limits.prop_map(|(min_balance, max_balance)| AccountChange::SetLimits(SetLimits { min_balance, max_balance })),
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    prop_oneof![leg().prop_map(Terms::One), legs().prop_map(Terms::Legs)]
}

fn legs() -> impl Strategy<Value = Vec<Leg>> {
    prop_oneof![4 => vec(leg(), 1..4), 1 => vec(leg(), Leg::MOST)]
}

fn leg() -> impl Strategy<Value = Leg> {
    (account(), account(), any::<i64>(), currency()).prop_map(|(debit_account, credit_account, amount, currency)| Leg {
        debit_account,
        credit_account,
        amount,
        currency,
    })
}

fn account() -> impl Strategy<Value = AccountName> {
    "[A-Za-z0-9][A-Za-z0-9:._-]{0,63}".prop_map(|name| AccountName::parse(&name).expect("a name"))
}

fn currency() -> impl Strategy<Value = Currency> {
    "[A-Z]{3}".prop_map(|code| Currency::parse(&code).expect("a code"))
}

type Notes = (Option<CompactString>, Option<CompactString>);

fn notes() -> impl Strategy<Value = Notes> {
    let metadata = btree_map("[^\0]{1,9}", "[^\0]{0,30}", 0..4).prop_map(|pairs| {
        let json = serde_json::to_string(&pairs).expect("JSON");
        canonical_metadata(&json).expect("an object of strings")
    });
    (option::of("[^\0]{1,140}".prop_map(CompactString::from)), option::of(metadata))
}
