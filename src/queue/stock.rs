//! What all rows of the store say together, read whenever it is opened; and what is not as it ought to be is set right or aside.
//!
//! | what is found                                    | what becomes of it                                                                              |
//! |--------------------------------------------------|--------------------------------------------------------------------------------------------------|
//! | a row that is not what was written               | it is written anew from what proves it: its own sum (see `row`), or the record that it seems to  |
//! |                                                  | name, when that and the body have their sums right and bear its name; else the message is dead   |
//! | a row that is not found by its name              | all rows are put into pages of their own                                                        |
//! | two that name one place, one that names what is  | the one that is not there is dead; see `lose`                                                   |
//! | not there; a body file that is short or missing  |                                                                                                  |
//! | fewer rows than redb says that there are         | nothing is opened: where the others lay would be given out again                                |
//!
//! All of one kind in one transaction, and what that puts on the shelf goes behind all that is there: cut off anywhere, it is done again at the next opening, and done
//! twice it changes nothing. Never: frees, or writes to, what a damaged row names.

use std::collections::BTreeMap;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata as _};

use super::embedded::Opened;
use super::index::{Draft, Index};
use super::recover::Recovery;
use super::row::{Body, Read, Row};
use super::shelf::Placing;
use super::space::{Extent, Kind, Misplaced, Space, Survey};
use super::tables::{self, DiskFault, Known, MESSAGES, Tables};
use crate::mail::QueueId;

/// How often a start looks at all rows, having set aside what it found to be wrong.
const LOOKS_MAX: usize = 3;

/// Why a message is dead whose row can't be told any more.
const ROW_DAMAGED: &str = "its row in store.redb is damaged, and what it names is not this message whole";

/// What all rows together say.
pub(super) struct Stock {
    pub(super) index: Index,
    pub(super) space: Space,
    /// Messages whose body is a file, and how long it ought to be.
    pub(super) files: BTreeMap<QueueId, u64>,
    /// Messages that do not lie where they ought to.
    misplaced: Vec<(QueueId, Misplaced)>,
    /// The order, being drawn.
    draft: Draft,
    /// Rows that can be told though an octet of them is wrong.
    mended: Vec<(QueueId, Row)>,
    /// Octets that are no row; they count for nothing here.
    damaged: Vec<(QueueId, Vec<u8>)>,
    /// Whether each is found under its name.
    found_by_name: bool,
}

/// Reads all rows.
fn take_stock(opened: &Opened) -> Result<Stock, DiskFault> {
    let mut survey = Survey::new(opened.shelf.length().map_err(redb::Error::Io)?);
    let mut stock = Stock {
        index: Index::default(),
        space: Space::default(),
        files: BTreeMap::new(),
        misplaced: Vec::new(),
        draft: Draft::default(),
        mended: Vec::new(),
        damaged: Vec::new(),
        found_by_name: true,
    };
    let messages = opened.database.begin_read()?.open_table(MESSAGES)?;
    let (mut last, mut found) = (None, 0_u64);
    for row in messages.iter()? {
        let (key, octets) = row?;
        let key = key.value();
        // A page that leads astray hides few or many, and whoever is not found by its name is nobody's turn.
        if last.replace(key).is_some_and(|last| last >= key) || messages.get(key)?.is_none() {
            stock.found_by_name = false;
        }
        stock.note(QueueId::from_u128(key), octets.value(), &mut survey);
        found = found.saturating_add(1);
    }
    if messages.len()? != found {
        // Where the others lay would be given out again.
        let told = messages.len()?;
        return Err(
            redb::Error::Corrupted(format!("it says that it holds {told} messages, and {found} are found")).into()
        );
    }
    stock.space = survey.drawn();
    stock.index = std::mem::take(&mut stock.draft).drawn();
    Ok(stock)
}

/// Reads all rows, and sets aside or right what is not as it ought to be. Without `files`, body files are not looked for.
pub(super) fn sound_stock(
    opened: &Opened,
    files: Option<&BTreeMap<QueueId, u64>>,
    recovery: &mut Recovery,
) -> Result<Stock, DiskFault> {
    let mut stock = take_stock(opened)?;
    if mend_rows(opened, &stock, recovery)? == Changed::Something {
        stock = take_stock(opened)?;
    }
    for _ in 0..LOOKS_MAX {
        if set_aside(opened, stock.faults(files), recovery)? == Changed::Nothing {
            break;
        }
        stock = take_stock(opened)?;
    }
    Ok(stock)
}

/// Writes those rows anew that are not what was written: as they were, where that can be proved.
fn mend_rows(opened: &Opened, stock: &Stock, recovery: &mut Recovery) -> Result<Changed, DiskFault> {
    if stock.mended.is_empty() && stock.damaged.is_empty() && stock.found_by_name {
        return Ok(Changed::Nothing);
    }
    let before = opened.database.begin_read()?;
    let transaction = tables::begin(&opened.database)?;
    if !(stock.damaged.is_empty() && stock.found_by_name) {
        write_rows_anew(&before, &transaction)?;
    }
    let mut space = Space::behind(opened.shelf.length().map_err(redb::Error::Io)?);
    let mut tables = Tables::open(&transaction, Placing::new(&opened.shelf, &mut space))?;
    for (id, row) in &stock.mended {
        tables.set_right(*id, row)?;
        recovery.mended.push(*id);
    }
    for (id, octets) in &stock.damaged {
        let seems = match Row::read(*id, octets) {
            Read::Whole(row) | Read::Mended(row) => Some(row),
            Read::Damaged(seems) => seems,
        };
        // Its name is what is wrong, when it is whole under the name that its record bears.
        let named = seems.as_ref().map_or(Ok(None), |row| tables.named_by(row))?;
        if let Some(name) = named
            && let Read::Whole(row) = Row::read(name, octets)
        {
            tables.set_right(name, &row)?;
            recovery.mended.push(name);
        } else if tables.heal(*id, seems.as_ref(), ROW_DAMAGED)? {
            recovery.mended.push(*id);
        } else {
            recovery.set_aside.push((*id, ROW_DAMAGED.to_owned()));
        }
    }
    tables.settle()?;
    drop(tables);
    transaction.commit()?;
    Ok(Changed::Something)
}

/// The same rows in pages of their own, each where its name leads; but for those that are damaged.
fn write_rows_anew(before: &redb::ReadTransaction, transaction: &redb::WriteTransaction) -> Result<(), DiskFault> {
    transaction.delete_table(MESSAGES)?;
    let mut messages = transaction.open_table(MESSAGES)?;
    for row in before.open_table(MESSAGES)?.iter()? {
        let (id, octets) = row?;
        if let Read::Whole(_) = Row::read(QueueId::from_u128(id.value()), octets.value()) {
            messages.insert(id.value(), octets.value())?;
        }
    }
    Ok(())
}

impl Stock {
    /// Whether no two lie in one place, and all where the shelf has been written.
    pub(super) fn is_sound(&self) -> bool {
        self.misplaced.is_empty()
    }

    fn note(&mut self, id: QueueId, octets: &[u8], survey: &mut Survey) {
        let row = match Row::read(id, octets) {
            Read::Whole(row) => row,
            Read::Mended(row) => {
                self.mended.push((id, row.clone()));
                row
            }
            Read::Damaged(_) => return self.damaged.push((id, octets.to_vec())),
        };
        let noted = [(Kind::Record, row.record.as_slice()), (Kind::Body, row.body.extents())];
        let faults = noted.map(|(kind, extents)| survey.note(kind, extents).err());
        self.misplaced.extend(faults.into_iter().flatten().next().map(|fault| (id, fault)));
        if row.body == Body::File {
            self.files.insert(id, row.length);
        }
        let (place, record) = (row.place(id), row.record_octets());
        self.draft.note(row.identity, place, row.length, record);
    }

    /// What is lost of whom.
    fn faults(&self, files: Option<&BTreeMap<QueueId, u64>>) -> Vec<(QueueId, Lost)> {
        let misplaced = self.misplaced.iter().map(|&(id, fault)| match fault {
            Misplaced::Beyond => (id, Lost::Beyond),
            Misplaced::Taken(extent) => (id, Lost::Taken(extent)),
        });
        let short = files.into_iter().flat_map(|files| {
            self.files.iter().filter_map(|(&id, &length)| match files.get(&id) {
                Some(&found) if found == length => None,
                Some(found) => Some((id, Lost::File(format!("its body file has {found} octets instead of {length}")))),
                None => Some((id, Lost::File("its body file is missing".to_owned()))),
            })
        });
        misplaced.chain(short).collect()
    }
}

/// What is lost of a message.
enum Lost {
    /// Its body file is not what it ought to be.
    File(String),
    /// The shelf ends before.
    Beyond,
    /// Another lies there.
    Taken(Extent),
}

/// Whether rows were changed, so that they are to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Something,
    Nothing,
}

/// Sets messages aside of which something is lost, unless they were before.
fn set_aside(opened: &Opened, faults: Vec<(QueueId, Lost)>, recovery: &mut Recovery) -> Result<Changed, DiskFault> {
    if faults.is_empty() {
        return Ok(Changed::Nothing);
    }
    let transaction = tables::begin(&opened.database)?;
    // What is written here goes behind all that is there, whoever's it is.
    let mut space = Space::behind(opened.shelf.length().map_err(redb::Error::Io)?);
    let mut tables = Tables::open(&transaction, Placing::new(&opened.shelf, &mut space))?;
    let mut changed = Changed::Nothing;
    for (id, lost) in faults {
        let Some(reason) = lose(&mut tables, id, &lost)? else { continue };
        changed = Changed::Something;
        if let Reason::Told(reason) = reason {
            recovery.set_aside.push((id, reason));
        }
    }
    tables.settle()?;
    drop(tables);
    transaction.commit()?;
    Ok(changed)
}

/// Notes of one message what is lost of it; why it was set aside, or that it only lies elsewhere now. None when it was noted before.
fn lose(tables: &mut Tables<'_>, id: QueueId, lost: &Lost) -> Result<Option<Reason>, DiskFault> {
    let reason = match lost {
        Lost::File(reason) => reason.clone(),
        Lost::Beyond => "the file of messages ends before what is kept of it".to_owned(),
        Lost::Taken(extent) => format!("another message lies in its place, at octet {}", extent.offset()),
    };
    match (tables.known(id)?, lost) {
        // What lies there is this one: the other is found to be damaged when its turn comes.
        (Known::Record(record), Lost::Taken(_)) if tables.move_whole(&record)? => Ok(Some(Reason::Moved)),
        (Known::Record(mut record), _) => {
            if record.reason.as_ref() == Some(&reason) {
                return Ok(None);
            }
            record.set_aside(&reason);
            tables.put(&record)?;
            if !matches!(lost, Lost::File(_)) {
                tables.forget_body(id)?;
            }
            Ok(Some(Reason::Told(reason)))
        }
        (Known::Unreadable(_), Lost::Beyond | Lost::Taken(_)) => {
            tables.set_unreadable_aside(id, &reason)?;
            tables.forget_record(id)?;
            tables.forget_body(id)?;
            Ok(Some(Reason::Told(reason)))
        }
        (Known::Unreadable(_), Lost::File(_)) | (Known::Nothing, _) => Ok(None),
    }
}

enum Reason {
    /// It was set aside, for this reason.
    Told(String),
    /// It lies elsewhere.
    Moved,
}
