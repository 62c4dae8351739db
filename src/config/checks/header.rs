//! What is asked of every header: `[header]`.

use super::Checking;
use crate::config::written::{WrittenFqdn, WrittenHeader, WrittenSender};
use crate::content::{EightBit, ForeignSender, HeaderRules, MissingSender, Results, Unqualified};
use crate::mail::Domain;

impl Checking<'_> {
    pub(super) fn header_rules(&mut self, written: &WrittenHeader) -> HeaderRules {
        let domain = written.domain.as_deref().and_then(|text| self.header_domain(text));
        let unqualified = match (written.fqdn, domain) {
            (WrittenFqdn::Complete, Some(domain)) => Unqualified::Completed(domain),
            (WrittenFqdn::Complete, None) => {
                if written.domain.is_none() {
                    let remedy = "write domain = \"example.com\" beside it";
                    self.findings.mistake("header.fqdn", "\"complete\": by which domain is not written", remedy);
                }
                Unqualified::Refused
            }
            (WrittenFqdn::Refuse, _) => Unqualified::Refused,
            (WrittenFqdn::Pass, _) => Unqualified::Passed,
        };
        if written.domain.is_some() && written.fqdn != WrittenFqdn::Complete {
            self.findings.warning("header.domain", "never applies without fqdn = \"complete\"", ());
        }
        HeaderRules {
            eight_bit: if written.strict_8bit { EightBit::Refused } else { EightBit::Passed },
            foreign_sender: match written.sender {
                WrittenSender::Check => ForeignSender::Refused,
                WrittenSender::Rewrite => ForeignSender::Replaced,
            },
            missing_sender: if written.add_sender { MissingSender::Added } else { MissingSender::LeftOut },
            unqualified,
            results: if written.authentication_results { Results::Written } else { Results::LeftOut },
        }
    }

    fn header_domain(&mut self, text: &str) -> Option<Domain> {
        match Domain::parse(text) {
            Ok(domain) if domain.ascii().contains('.') => Some(domain),
            Ok(_) => {
                let wrong = format!("{text:?}: not fully qualified itself");
                self.findings.mistake("header.domain", wrong, "write a name like \"example.com\"");
                None
            }
            Err(fault) => {
                let wrong = format!("{text:?}: {fault}");
                self.findings.mistake("header.domain", wrong, "write a name like \"example.com\"");
                None
            }
        }
    }
}
