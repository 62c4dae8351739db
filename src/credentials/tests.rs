//! One path, one answer, one amount of work: whatever is wrong with a login.

use super::password::{Cost, HASHES, SALT_OCTETS};
use super::*;

const CHEAP: Cost = Cost { memory_kib: 16, passes: 2, lanes: 1 };
const SECRET: &[u8; 20] = b"12345678901234567890";

fn now() -> WallTime {
    WallTime::from_seconds(1_800_000_000)
}

fn code() -> String {
    TotpSecret::new(*SECRET).code(totp::Step::at(now())).as_str().to_owned()
}

fn credentials() -> Credentials {
    let hash = PasswordHash::make_at(CHEAP, "hunter2", [1; SALT_OCTETS]).written();
    let scram = ScramSecret::make("hunter2", &[2; 16], 4096).written();
    let totp = TotpSecret::new(*SECRET).written();
    let text =
        format!("both {hash} {scram}\nhash {hash}\nscram {scram}\ncode {hash} totp={}\nhalf totp={}\n", *totp, *totp);
    file::read(&text, |_| true).unwrap()
}

/// The hashes that were made meanwhile.
fn work(of: impl FnOnce() -> Judged) -> (Judged, Vec<Cost>) {
    HASHES.with(|hashes| hashes.borrow_mut().clear());
    let judged = of();
    (judged, HASHES.with(|hashes| hashes.borrow().clone()))
}

#[test]
fn every_failure_does_the_same_work() {
    let credentials = credentials();
    let (good, another) = (format!("hunter2{}", code()), format!("hunter2{}", "000000"));
    for (whose, factor) in [("hash", SecondFactor::Password), ("code", SecondFactor::Totp)] {
        let credential = credentials.of(whose);
        // With codes, the password of the last but one is right.
        let of_another_code = if factor == SecondFactor::Totp { Wrong::Code } else { Wrong::Password };
        let shown: [(&[u8], Named, Wrong); 8] = [
            (b"hunter2", Named::Another, Wrong::User),
            (good.as_bytes(), Named::Another, Wrong::User),
            (b"hunter3", Named::Itself, Wrong::Password),
            (b"", Named::Itself, Wrong::Password),
            (b"\xff\xff", Named::Itself, Wrong::Password),
            (b"hunter2\0", Named::Itself, Wrong::Password),
            (another.as_bytes(), Named::Itself, of_another_code),
            (b"a\x07bell", Named::Itself, Wrong::Password),
        ];
        for (password, named, wrong) in shown {
            let (judged, hashes) = work(|| judge(credential, factor, named, password, now()));
            assert_eq!(judged, Judged::Wrong(wrong), "{whose} {}", password.escape_ascii());
            assert_eq!(hashes, [CHEAP], "{whose} {}", password.escape_ascii());
        }
    }
    // Whoever has no credential (any more) costs what others usually cost.
    for (credential, factor) in [(None, SecondFactor::Password), (credentials.of("half"), SecondFactor::Totp)] {
        let (judged, hashes) = work(|| judge(credential, factor, Named::Itself, b"hunter2", now()));
        assert_eq!(judged, Judged::Wrong(Wrong::NoCredential));
        assert_eq!(hashes, [Cost { memory_kib: PasswordHash::memory_kib_of_nobody(), passes: 2, lanes: 1 }]);
    }
}

#[test]
fn the_right_password_is_right_and_only_where_it_is_asked_for() {
    let credentials = credentials();
    let judged =
        |whose: &str, factor, shown: &str| judge(credentials.of(whose), factor, Named::Itself, shown.as_bytes(), now());
    assert!(matches!(judged("hash", SecondFactor::Password, "hunter2"), Judged::Right(_)));
    assert!(matches!(judged("both", SecondFactor::Password, "hunter2"), Judged::Right(_)));
    assert_eq!(judged("hash", SecondFactor::None, "hunter2"), Judged::Wrong(Wrong::NoCredential));
    assert_eq!(judged("hash", SecondFactor::Totp, &format!("hunter2{}", code())), Judged::Wrong(Wrong::NoCredential));
    let step = totp::Step::at(now());
    let right = judged("code", SecondFactor::Totp, &format!("hunter2{}", code()));
    assert!(matches!(right, Judged::RightWith(_, of) if of == step), "{right:?}");
    assert_eq!(judged("code", SecondFactor::Totp, "hunter2"), Judged::Wrong(Wrong::Code));
    assert_eq!(judged("code", SecondFactor::Totp, &format!("{}hunter2", code())), Judged::Wrong(Wrong::Password));
}

#[test]
fn what_is_offered_is_what_this_identity_can_use() {
    use Mechanism::{External, Login, Plain, ScramSha256, ScramSha256Plus};
    let credentials = credentials();
    let bound = || Some(ExporterValue([1; 32]));
    let rows: [(&str, SecondFactor, Option<ExporterValue>, &[Mechanism]); 9] = [
        ("both", SecondFactor::None, bound(), &[External]),
        ("nobody", SecondFactor::Password, bound(), &[]),
        ("hash", SecondFactor::Password, bound(), &[Plain, Login]),
        ("scram", SecondFactor::Password, bound(), &[ScramSha256Plus, ScramSha256]),
        ("scram", SecondFactor::Password, None, &[ScramSha256]),
        ("both", SecondFactor::Password, bound(), &[ScramSha256Plus, ScramSha256, Plain, Login]),
        ("both", SecondFactor::Totp, bound(), &[]),
        ("code", SecondFactor::Totp, bound(), &[Plain, Login]),
        ("half", SecondFactor::Totp, bound(), &[]),
    ];
    for (whose, factor, exporter, expected) in rows {
        assert_eq!(credentials.means(whose, factor, exporter).mechanisms(), expected, "{whose} {factor:?}");
    }
}

#[test]
fn what_was_shown_counts_as_long_as_nothing_changes() {
    let credentials = credentials();
    let Judged::Right(proof) = judge(credentials.of("hash"), SecondFactor::Password, Named::Itself, b"hunter2", now())
    else {
        panic!("the password is right");
    };
    let holds = |credentials: &Credentials, whose, factor| credentials.means(whose, factor, None).still_hold(&proof);
    assert!(holds(&credentials, "hash", SecondFactor::Password));
    assert!(!holds(&credentials, "hash", SecondFactor::Totp), "another factor is demanded now");
    assert!(!holds(&credentials, "scram", SecondFactor::Password), "the credential is gone");
    let again = PasswordHash::make_at(CHEAP, "hunter2", [9; SALT_OCTETS]).written();
    let changed = file::read(&format!("hash {again}\n"), |_| true).unwrap();
    assert!(!holds(&changed, "hash", SecondFactor::Password), "the credential is another");
    assert!(!holds(&Credentials::default(), "hash", SecondFactor::Password));
}

#[test]
fn a_user_who_is_not_the_identity_stands_on_nobodys_secret() {
    let credentials = credentials();
    let ground_of = |whose: &str, named| ground(credentials.of(whose), named, "hash", &[3; 32]);
    assert!(ground_of("scram", Named::Itself).proof.is_some());
    let another = ground_of("scram", Named::Another);
    assert!(another.proof.is_none());
    let own = credentials.of("scram").unwrap().scram.as_ref().unwrap();
    assert_eq!((another.secret.iterations(), another.secret.salt().len()), (4096, 16), "it looks the same");
    assert_ne!(another.secret.salt(), own.0.salt());
    assert!(ground_of("hash", Named::Itself).proof.is_none());
}
