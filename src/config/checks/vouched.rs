//! Load balancers that vouch for their clients' certificates: which may, at which listener, and for whom.

use super::Checking;
use crate::config::settings::ListenerMode;
use crate::config::written::{Written, WrittenListener, WrittenListenerMode, WrittenRefusal};
use crate::identity::{Digest256, Roster};
use crate::tls::BalancerPins;
use crate::upstream::Pin;

impl Checking<'_> {
    /// The load balancers whose word counts at this listener; none where it is another's mode.
    pub(super) fn vouchers(&mut self, path: &str, entry: &WrittenListener, mode: ListenerMode) -> BalancerPins {
        let key = format!("{path}.balancer_pin");
        match mode {
            ListenerMode::ProxiedTls => self.what_vouching_needs(path, entry),
            ListenerMode::StartTls | ListenerMode::Implicit => {
                if entry.balancer_pin.is_some() {
                    let remedy = "take it out; a listener for load balancers that vouch has mode = \"proxied-tls\"";
                    self.findings.mistake(&key, "counts with mode = \"proxied-tls\" alone", remedy);
                }
                return BalancerPins::default();
            }
        }
        let mut digests = Vec::new();
        for (index, text) in entry.balancer_pin.iter().flatten().enumerate() {
            match text.parse::<Pin>() {
                Ok(pin) => digests.push(Digest256(*pin.octets())),
                Err(fault) => {
                    self.findings.mistake(
                        &format!("{key}[{index}]"),
                        format!("{text:?}: not a pin"),
                        fault.to_string(),
                    );
                }
            }
        }
        BalancerPins::new(digests)
    }

    fn what_vouching_needs(&mut self, path: &str, entry: &WrittenListener) {
        let how = "pin the load balancer's own certificate or its key: balancer_pin = [\"sha256/...\"]";
        let key = format!("{path}.balancer_pin");
        let pins = self.required(&key, entry.balancer_pin.as_ref(), how);
        if pins.is_some_and(|pins| pins.is_empty()) && !self.findings.origins().is_spoiled(&key) {
            self.findings.mistake(&key, "is empty: nobody could connect", how);
        }
        let how = "name the networks that the load balancers connect from: proxy = [\"10.0.0.0/29\"]";
        self.required(&format!("{path}.proxy"), entry.proxy.as_ref(), how);
        if entry.refusal == Some(WrittenRefusal::Alert) {
            let wrong = "\"alert\": the handshake is the load balancer's, and can't tell a client anything";
            self.findings.mistake(&format!("{path}.refusal"), wrong, "write \"reply\" or \"defer\"");
        }
    }

    /// A listener at which nobody could send.
    pub(super) fn warn_of_nobody_vouched(&mut self, written: &Written, roster: Option<&Roster>) {
        if roster.is_none_or(Roster::takes_vouched) {
            return;
        }
        for (index, entry) in written.listener.iter().enumerate() {
            if entry.mode == Some(WrittenListenerMode::ProxiedTls) {
                let wrong = "nobody can send here: there is no accept_vouched = true";
                let remedy =
                    "write it in each [[client_ca]] and [[identity]] whose certificates load balancers may vouch for";
                self.findings.warning(&format!("listener[{index}].mode"), wrong, remedy);
            }
        }
    }
}
