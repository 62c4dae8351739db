//! An operator who steers the queue, at random: holds and releases, tries again, removes, and compacts; at the end lets everything go.

use std::sync::{Arc, Mutex};

use sealpost::house::House;
use sealpost::queue::{Listed, Record, State};
use tokio::time::sleep;

use super::account::Account;
use super::life::listed;
use super::world::Dice;

/// Works as long as the life lasts.
pub(super) async fn work_on(house: Arc<House>, dice: Arc<Dice>, account: Arc<Mutex<Account>>) {
    loop {
        sleep(dice.seconds(600)).await;
        let all = records(&house).await;
        if all.is_empty() {
            continue;
        }
        if dice.one_in(12) {
            // Where the disk has no room for it, or fails, it stays as it is.
            let _ = house.queue.compact(0, |_, _| {}).await;
            continue;
        }
        let record = &all[usize::try_from(dice.draw(all.len() as u64)).unwrap()];
        // What fails is tried again some other time, and what is gone meanwhile is gone.
        let _ = match dice.draw(10) {
            0..3 => house.queue.hold(record.id).await,
            3..7 => {
                account.lock().unwrap().letting_go(record);
                house.queue.release(record.id).await
            }
            7 | 8 => {
                account.lock().unwrap().letting_go(record);
                house.queue.retry(record.id).await
            }
            _ => {
                account.lock().unwrap().removing(record);
                house.queue.remove(record.id).await
            }
        };
    }
}

/// Nothing is kept back any more.
pub(super) async fn release_all(house: &House) {
    for record in records(house).await.iter().filter(|record| record.state == State::Held) {
        let _ = house.queue.release(record.id).await;
    }
}

async fn records(house: &House) -> Vec<Record> {
    let record = |listed: Listed| match listed {
        Listed::Message(record) => Some(*record),
        Listed::Unreadable(..) => None,
    };
    listed(&house.queue).await.into_iter().filter_map(record).collect()
}
