#![allow(clippy::disallowed_methods, reason = "tests look behind the seam")]

use std::path::Path;

use super::*;

fn written(disk: &dyn Disk, path: &Path, octets: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(path, Open::New).unwrap();
    file.write_at(0, octets).unwrap();
    file
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..64 {
        let disk = SimulatedDisk::new(seed);
        let path = Path::new("/d/a");
        let file = written(&disk, path, &[7; 2000]);
        file.sync().unwrap();
        disk.sync_folder(Path::new("/d")).unwrap();
        file.write_at(1000, &[9; 3000]).unwrap();
        disk.crash();
        let left = disk.octets(path).unwrap();
        assert_eq!(left.get(..1000), Some(&[7; 1000][..]), "seed {seed}");
    }
}

#[test]
fn what_was_not_synced_is_torn_at_sectors_and_only_there() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let disk = SimulatedDisk::new(seed);
        let path = Path::new("/d/a");
        let file = written(&disk, path, &[0; 1536]);
        file.sync().unwrap();
        disk.sync_folder(Path::new("/d")).unwrap();
        file.write_at(0, &[1; 1536]).unwrap();
        disk.crash();
        let left = disk.octets(path).unwrap();
        let sectors: Vec<u8> = left.chunks(512).map(|sector| sector[0]).collect();
        assert!(left.chunks(512).all(|sector| sector.iter().all(|&octet| octet == sector[0])), "seed {seed}");
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 8, "every subset of three sectors turns up in 64 seeds");
}

#[test]
fn a_name_without_a_sync_of_its_folder_may_be_gone() {
    let gone = (0..32)
        .filter(|&seed| {
            let disk = SimulatedDisk::new(seed);
            written(&disk, Path::new("/d/a"), b"x").sync().unwrap();
            disk.crash();
            disk.octets(Path::new("/d/a")).is_none()
        })
        .count();
    assert!((1..32).contains(&gone), "{gone} of 32");
}

#[test]
fn after_a_failed_sync_a_second_one_says_yes_and_the_octets_are_lost_all_the_same() {
    let disk = SimulatedDisk::new(3);
    let path = Path::new("/d/a");
    let file = written(&disk, path, &[1; 8192]);
    disk.fail(1, 0, Fault::Error);
    file.sync().unwrap_err();
    file.sync().unwrap();
    let mut shown = [0; 8192];
    file.read_at(0, &mut shown).unwrap();
    assert_eq!(shown, [1; 8192], "the cache still shows them");
    let afresh = disk.open(path, Open::Afresh).unwrap();
    let length = usize::try_from(afresh.length().unwrap()).unwrap();
    let mut left = vec![0; length];
    afresh.read_at(0, &mut left).unwrap();
    assert_ne!(left, shown, "the disk does not have them");
}

#[test]
fn the_chosen_operation_fails_and_no_other() {
    let disk = SimulatedDisk::new(0);
    let file = written(&disk, Path::new("/d/a"), b"x");
    disk.fail(2, 0, Fault::NoSpace);
    file.write_at(0, b"1234").unwrap();
    let fault = file.write_at(4, b"5678").unwrap_err();
    assert_eq!(fault.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.octets(Path::new("/d/a")).unwrap(), b"123456", "half a write");
    file.write_at(4, b"5678").unwrap();
}

#[test]
fn both_disks_lock_once_rename_list_and_remove_alike() {
    let folder = tempfile::tempdir().unwrap();
    let disks: [&dyn Disk; 2] = [&SystemDisk, &SimulatedDisk::new(0)];
    for disk in disks {
        let home = folder.path().join("deep/home");
        disk.create_folder(&home).unwrap();
        let lock = disk.lock(&home.join("lock")).unwrap();
        assert_eq!(disk.lock(&home.join("lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{disk:?}");
        drop(lock);
        drop(disk.lock(&home.join("lock")).unwrap());
        let file = written(disk, &home.join("a"), b"hello");
        file.set_length(3).unwrap();
        file.sync().unwrap();
        assert_eq!(disk.open(&home.join("a"), Open::New).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.rename(&home.join("a"), &home.join("b")).unwrap();
        disk.sync_folder(&home).unwrap();
        let named: Vec<Entry> = disk.list(&home).unwrap().into_iter().filter(|entry| entry.name != "lock").collect();
        assert_eq!(named, [Entry { name: "b".to_owned(), length: 3 }]);
        assert!(disk.space_left(&home).unwrap() > 0);
        disk.remove(&home.join("b")).unwrap();
        assert_eq!(disk.open(&home.join("b"), Open::Afresh).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn folder_and_file_are_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    SystemDisk.create_folder(&home).unwrap();
    drop(written(&SystemDisk, &home.join("a"), b"x"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home), mode(&home.join("a"))), (0o700, 0o600));
}

#[test]
fn the_system_disk_follows_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let (link, elsewhere) = (folder.path().join("lock"), folder.path().join("elsewhere"));
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    SystemDisk.lock(&link).unwrap_err();
    assert!(!elsewhere.exists(), "nothing is made where it leads");
    std::fs::write(&elsewhere, "x").unwrap();
    for how in [Open::New, Open::Existing, Open::Afresh] {
        SystemDisk.open(&link, how).unwrap_err();
    }
}
