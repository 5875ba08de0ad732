//! The ledger of the demo: accounts, payments and transfers, all amounts in cents.
//!
//! It knows nothing of repeats, and that is its point: each call has its effect each time. It reads no clock and
//! makes its ids by counting, so that the same calls always give the same answers.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::Serialize;

/// The one currency in which all accounts are kept.
pub(crate) const CURRENCY: &str = "EUR";

/// The books: what each account holds, and everything that ever moved.
#[derive(Debug)]
pub(crate) struct Bank {
    balances: BTreeMap<String, u64>,
    payments: Vec<Recorded<Payment>>,
    transfers: Vec<Recorded<Transfer>>,
}

/// Money that left an account for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Payment {
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) amount: NonZeroU64,
    pub(crate) currency: &'static str,
    /// What the account held right after this payment.
    pub(crate) balance: u64,
    /// How many times this account had been charged by then, this payment included.
    pub(crate) number: u64,
}

/// Money that went from one account to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) amount: NonZeroU64,
    pub(crate) currency: &'static str,
    pub(crate) from_balance: u64,
    pub(crate) to_balance: u64,
}

/// What came along with a call. It is kept for the reader of the books and never acted upon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Arrived {
    pub(crate) key: Option<String>,
    pub(crate) fence: Option<String>,
    pub(crate) attempt: Option<String>,
}

/// An effect together with what arrived with the call that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Recorded<T> {
    #[serde(flatten)]
    pub(crate) effect: T,
    #[serde(flatten)]
    pub(crate) arrived: Arrived,
}

/// One account as the reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) balance: u64,
    pub(crate) currency: &'static str,
    /// How many times the account has been charged.
    pub(crate) payments: u64,
    /// The sum of those charges.
    pub(crate) charged: u128,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `field` of the request names an account that does not exist.
    UnknownAccount { field: &'static str, account: String },
    /// The account holds only `balance`.
    NotEnoughMoney { account: String, balance: u64 },
    /// A transfer must have two ends.
    SameAccount,
    /// The receiver's balance would not fit.
    TooMuchMoney { account: String },
}

impl Bank {
    /// The books at the start of the demo.
    pub(crate) fn opening() -> Self {
        Self::with_balances([("alice", 100_000), ("bob", 50_000), ("carol", 0)])
    }

    fn with_balances<const N: usize>(balances: [(&str, u64); N]) -> Self {
        let balances = balances.map(|(id, balance)| (id.to_owned(), balance)).into();
        Self { balances, payments: Vec::new(), transfers: Vec::new() }
    }

    /// Charges `account`. A refusal changes nothing.
    pub(crate) fn pay(
        &mut self,
        account: &str,
        amount: NonZeroU64,
        arrived: Arrived,
    ) -> Result<Payment, Refusal> {
        let balance = self.without("account", account, amount)?;
        let payment = Payment {
            id: format!("pay_{}", self.payments.len() + 1),
            account: account.to_owned(),
            amount,
            currency: CURRENCY,
            balance,
            number: self.account(account)?.payments + 1,
        };
        self.balances.insert(account.to_owned(), balance);
        self.payments.push(Recorded { effect: payment.clone(), arrived });
        Ok(payment)
    }

    /// Moves `amount`; the sum of all balances stays the same. A refusal changes nothing.
    pub(crate) fn transfer(
        &mut self,
        from: &str,
        to: &str,
        amount: NonZeroU64,
        arrived: Arrived,
    ) -> Result<Transfer, Refusal> {
        let to_held = self.balance("to", to)?;
        if from == to {
            return Err(Refusal::SameAccount);
        }
        let from_balance = self.without("from", from, amount)?;
        let to_balance = to_held
            .checked_add(amount.get())
            .ok_or_else(|| Refusal::TooMuchMoney { account: to.to_owned() })?;
        let transfer = Transfer {
            id: format!("tr_{}", self.transfers.len() + 1),
            from: from.to_owned(),
            to: to.to_owned(),
            amount,
            currency: CURRENCY,
            from_balance,
            to_balance,
        };
        self.balances.insert(from.to_owned(), from_balance);
        self.balances.insert(to.to_owned(), to_balance);
        self.transfers.push(Recorded { effect: transfer.clone(), arrived });
        Ok(transfer)
    }

    /// All payments in the order in which they happened, or those of one account.
    pub(crate) fn payments(&self, account: Option<&str>) -> Result<Vec<Recorded<Payment>>, Refusal> {
        if let Some(id) = account {
            self.balance("account", id)?;
        }
        let wanted = |it: &&Recorded<Payment>| account.is_none_or(|id| it.effect.account == id);
        Ok(self.payments.iter().filter(wanted).cloned().collect())
    }

    /// The payment with this id.
    pub(crate) fn payment(&self, id: &str) -> Option<Recorded<Payment>> {
        self.payments.iter().find(|it| it.effect.id == id).cloned()
    }

    /// All transfers in the order in which they happened.
    pub(crate) fn transfers(&self) -> Vec<Recorded<Transfer>> {
        self.transfers.clone()
    }

    /// The transfer with this id.
    pub(crate) fn transfer_by_id(&self, id: &str) -> Option<Recorded<Transfer>> {
        self.transfers.iter().find(|it| it.effect.id == id).cloned()
    }

    /// All accounts by name.
    pub(crate) fn accounts(&self) -> Vec<Account> {
        self.balances.iter().map(|(id, balance)| self.describe(id, *balance)).collect()
    }

    /// The account with this id.
    pub(crate) fn account(&self, id: &str) -> Result<Account, Refusal> {
        self.balance("account", id).map(|balance| self.describe(id, balance))
    }

    fn describe(&self, id: &str, balance: u64) -> Account {
        let mut account = Account { id: id.to_owned(), balance, currency: CURRENCY, payments: 0, charged: 0 };
        for payment in self.payments.iter().map(|it| &it.effect).filter(|it| it.account == id) {
            account.payments += 1;
            account.charged += u128::from(payment.amount.get());
        }
        account
    }

    fn balance(&self, field: &'static str, account: &str) -> Result<u64, Refusal> {
        let unknown = || Refusal::UnknownAccount { field, account: account.to_owned() };
        self.balances.get(account).copied().ok_or_else(unknown)
    }

    /// What `account` would hold after giving `amount` away.
    fn without(&self, field: &'static str, account: &str, amount: NonZeroU64) -> Result<u64, Refusal> {
        let balance = self.balance(field, account)?;
        let short = || Refusal::NotEnoughMoney { account: account.to_owned(), balance };
        balance.checked_sub(amount.get()).ok_or_else(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cents(amount: u64) -> NonZeroU64 {
        NonZeroU64::new(amount).unwrap()
    }

    fn pay(bank: &mut Bank, account: &str, amount: u64) -> Result<Payment, Refusal> {
        bank.pay(account, cents(amount), Arrived::default())
    }

    fn transfer(bank: &mut Bank, from: &str, to: &str, amount: u64) -> Result<Transfer, Refusal> {
        bank.transfer(from, to, cents(amount), Arrived::default())
    }

    fn money(bank: &Bank) -> u128 {
        bank.balances.values().copied().map(u128::from).sum()
    }

    /// Everything that a caller could see of the books.
    fn books(bank: &Bank) -> String {
        format!("{bank:?}")
    }

    #[test]
    fn the_same_payment_asked_for_twice_charges_twice() {
        let mut bank = Bank::opening();
        let arrived = Arrived { key: Some("order-1".to_owned()), ..Arrived::default() };
        let first = bank.pay("alice", cents(1200), arrived.clone()).unwrap();
        let second = bank.pay("alice", cents(1200), arrived.clone()).unwrap();
        assert_eq!((first.id.as_str(), first.number, first.balance), ("pay_1", 1, 98_800));
        assert_eq!((second.id.as_str(), second.number, second.balance), ("pay_2", 2, 97_600));
        let kept = bank.payments(None).unwrap();
        assert_eq!(kept.iter().filter(|it| it.arrived == arrived).count(), 2);
    }

    #[test]
    fn the_number_of_a_payment_counts_its_own_account_only() {
        let mut bank = Bank::opening();
        pay(&mut bank, "alice", 1).unwrap();
        let of_bob = pay(&mut bank, "bob", 1).unwrap();
        assert_eq!((of_bob.id.as_str(), of_bob.number), ("pay_2", 1));
        assert_eq!(bank.payments(Some("bob")).unwrap().len(), 1);
        assert_eq!(bank.account("alice").unwrap().payments, 1);
    }

    #[test]
    fn transfers_conserve_money() {
        let mut bank = Bank::opening();
        let before = money(&bank);
        let names = ["alice", "bob", "carol"];
        let mut moved = 0;
        for step in 0..300_u64 {
            let pick = |by: u64| names[usize::try_from((step / by) % 3).unwrap()];
            moved += u32::from(transfer(&mut bank, pick(1), pick(3), 1 + step * 17 % 9_000).is_ok());
            assert_eq!(money(&bank), before, "after step {step}");
        }
        assert!(moved > 100, "only {moved} transfers were carried out");
        assert_eq!(bank.transfers().len(), usize::try_from(moved).unwrap());
    }

    #[test]
    fn payments_take_exactly_what_they_say() {
        let mut bank = Bank::opening();
        let before = money(&bank);
        for amount in [1, 999, 30_000] {
            pay(&mut bank, "bob", amount).unwrap();
        }
        assert_eq!(money(&bank), before - 31_000);
        assert_eq!(bank.account("bob").unwrap().charged, 31_000);
    }

    #[test]
    fn a_refused_call_changes_nothing() {
        type Call = fn(&mut Bank) -> Option<Refusal>;
        let calls: [(&str, Call); 8] = [
            ("more than there is", |bank| pay(bank, "bob", 50_001).err()),
            ("from an empty account", |bank| pay(bank, "carol", 1).err()),
            ("by nobody", |bank| pay(bank, "nobody", 1).err()),
            ("the largest amount", |bank| pay(bank, "alice", u64::MAX).err()),
            ("from nobody", |bank| transfer(bank, "nobody", "bob", 1).err()),
            ("to nobody", |bank| transfer(bank, "alice", "nobody", 1).err()),
            ("to oneself", |bank| transfer(bank, "alice", "alice", 1).err()),
            ("more than there is to move", |bank| transfer(bank, "bob", "carol", u64::MAX).err()),
        ];
        let mut bank = Bank::opening();
        pay(&mut bank, "alice", 5).unwrap();
        let before = books(&bank);
        for (name, call) in calls {
            assert!(call(&mut bank).is_some(), "{name} was carried out");
            assert_eq!(books(&bank), before, "{name} changed the books");
        }
    }

    #[test]
    fn a_balance_can_be_spent_to_the_last_cent() {
        let mut bank = Bank::opening();
        assert_eq!(pay(&mut bank, "alice", 100_000).unwrap().balance, 0);
    }

    #[test]
    fn a_balance_never_overflows() {
        let mut bank = Bank::with_balances([("full", u64::MAX), ("other", 10)]);
        let before = books(&bank);
        let refused = transfer(&mut bank, "other", "full", 1).unwrap_err();
        assert_eq!(refused, Refusal::TooMuchMoney { account: "full".to_owned() });
        assert_eq!(books(&bank), before);
        assert_eq!(pay(&mut bank, "full", u64::MAX).unwrap().balance, 0);
    }
}
