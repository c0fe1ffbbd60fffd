//! Archives that must not be unpacked, and those that must; what comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agent::stage::baseline::Baseline;
use agent::stage::pack::{Packed, pack};
use agent::stage::unpack::{UnpackError, UnpackLimits, unpack};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use tempfile::TempDir;

/// A folder with the archive, the target, and everything around the target that must stay as it is.
struct Place {
    folder: TempDir,
    archive: tar::Builder<GzEncoder<fs::File>>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("around/target")).unwrap();
        fs::write(folder.path().join("around/neighbour"), "before").unwrap();
        let file = fs::File::create(folder.path().join("archive.tgz")).unwrap();
        Self { folder, archive: tar::Builder::new(GzEncoder::new(file, Compression::fast())) }
    }

    /// Adds an entry with the name as it is: the builder would refuse bad ones.
    fn raw(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.archive.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.raw(EntryType::Regular, name, "", content.as_bytes())
    }

    fn link(self, name: &str, to: &str) -> Self {
        self.raw(EntryType::Symlink, name, to, b"")
    }

    fn hard_link(self, name: &str, to: &str) -> Self {
        self.raw(EntryType::Link, name, to, b"")
    }

    fn folder(self, name: &str) -> Self {
        self.raw(EntryType::Directory, name, "", b"")
    }

    fn unpack(self) -> (Unpacked, Result<(), UnpackError>) {
        self.unpack_within(&UnpackLimits::default())
    }

    fn unpack_within(self, limits: &UnpackLimits) -> (Unpacked, Result<(), UnpackError>) {
        self.archive.into_inner().unwrap().finish().unwrap().flush().unwrap();
        let path = self.folder.path().to_owned();
        let done = unpack(&path.join("archive.tgz"), &path.join("around/target"), limits);
        (Unpacked { _folder: self.folder, around: path.join("around") }, done)
    }

    /// Expects a refusal with these words, and that nothing outside the target has changed.
    #[track_caller]
    fn refused(self, words: &str) {
        let (unpacked, done) = self.unpack();
        let error = done.expect_err("the archive must be refused");
        assert!(error.is_archives_fault(), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        unpacked.assert_untouched();
    }
}

struct Unpacked {
    _folder: TempDir,
    around: PathBuf,
}

impl Unpacked {
    #[track_caller]
    fn assert_untouched(&self) {
        let mut names: Vec<_> =
            fs::read_dir(&self.around).unwrap().map(|item| item.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["neighbour", "target"]);
        assert_eq!(fs::read_to_string(self.around.join("neighbour")).unwrap(), "before");
        assert!(!Path::new("/tmp/agent-unpack-test").exists());
    }

    fn target(&self) -> PathBuf {
        self.around.join("target")
    }
}

#[test]
fn an_ordinary_archive_is_unpacked() {
    let (unpacked, done) = Place::new()
        .folder("./")
        .folder("./bin/")
        .file("./bin/run", "#!/bin/sh\n")
        .file("deep/er/file", "x")
        .folder("bin")
        .link("latest", "deep/er")
        .link("deep/er/up", "../../bin/run")
        .hard_link("again", "bin/run")
        .unpack();
    done.unwrap();
    let target = unpacked.target();
    assert_eq!(fs::read_to_string(target.join("latest/file")).unwrap(), "x");
    assert_eq!(fs::read_to_string(target.join("deep/er/up")).unwrap(), "#!/bin/sh\n");
    assert_eq!(fs::read_to_string(target.join("again")).unwrap(), "#!/bin/sh\n");
    let mode = fs::metadata(target.join("bin/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "executable, and not writable by others");
    unpacked.assert_untouched();
}

#[test]
fn long_names_are_understood() {
    let mut place = Place::new();
    let name = format!("{}/{}", "f".repeat(120), "g".repeat(200));
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    place.archive.append_data(&mut header, &name, b"x".as_slice()).unwrap();
    let (unpacked, done) = place.unpack();
    done.unwrap();
    assert_eq!(fs::read_to_string(unpacked.target().join(name)).unwrap(), "x");
}

#[test]
fn paths_that_lead_out_are_refused() {
    Place::new().file("../neighbour", "after").refused("\"../neighbour\" is refused");
    Place::new().file("a/../../neighbour", "after").refused("leads out");
    Place::new().file("/tmp/agent-unpack-test", "after").refused("absolute");
    Place::new().folder("..").refused("leads out");
}

#[test]
fn links_that_lead_out_are_refused() {
    Place::new().link("out", "../neighbour").refused("\"out\" is refused");
    Place::new().link("out", "/etc/passwd").refused("absolute");
    Place::new().link("a/out", "../../neighbour").refused("leads out");
    Place::new().link("a/out", "b/../../..").refused("leads out");
    Place::new().hard_link("out", "../neighbour").refused("leads out");
    Place::new().hard_link("out", "/etc/passwd").refused("absolute");
    Place::new().hard_link("out", "neighbour").refused("hard link");
}

#[test]
fn a_detour_through_an_inner_link_is_refused() {
    // x/y/s is the target itself: behind it, `..` would be outside.
    let place = Place::new().folder("x").folder("x/y").link("x/y/s", "../..");
    place.link("out", "x/y/s/../neighbour").refused("leads out");
}

#[test]
fn nothing_is_written_through_a_link() {
    Place::new().folder("d").link("l", "d").file("l/file", "x").refused("is a symbolic link");
    Place::new().folder("d").link("l", "d").folder("l").refused("is a symbolic link");
    Place::new().link("l", "d").file("l", "x").refused("twice");
    Place::new().folder("d").link("l", "d").hard_link("h", "l").refused("hard link");
}

#[test]
fn the_same_path_twice_is_refused() {
    Place::new().file("f", "1").file("f", "2").refused("twice");
    Place::new().file("f", "1").file("./f", "2").refused("twice");
    Place::new().file("f", "1").link("f", "g").refused("twice");
    Place::new().folder("f").link("f", "g").refused("twice");
    Place::new().file("f", "1").folder("f").refused("not a folder");
    Place::new().file("f", "1").file("f/g", "2").refused("not a folder");
}

#[test]
fn devices_and_fifos_are_refused() {
    Place::new().raw(EntryType::Char, "null", "", b"").refused("\"null\" is refused");
    Place::new().raw(EntryType::Block, "disk", "", b"").refused("not a file");
    Place::new().raw(EntryType::Fifo, "pipe", "", b"").refused("not a file");
    Place::new().raw(EntryType::GNUSparse, "holes", "", b"").refused("");
}

#[test]
fn too_many_entries_are_refused_before_anything_is_written() {
    let limits = UnpackLimits { entries: 3, ..UnpackLimits::default() };
    let full = Place::new().file("a", "").file("b", "").file("c", "");
    full.unpack_within(&limits).1.unwrap();
    let place = Place::new().file("a", "").file("b", "").file("c", "").file("d", "");
    let (unpacked, done) = place.unpack_within(&limits);
    assert_eq!(done.unwrap_err().to_string(), "the archive has more than 3 entries");
    assert_eq!(fs::read_dir(unpacked.target()).unwrap().count(), 0);
}

#[test]
fn too_many_bytes_are_refused_before_anything_is_written() {
    let limits = UnpackLimits { total_bytes: 1 << 20, ..UnpackLimits::default() };
    let half = "x".repeat(600_000);
    let (unpacked, done) = Place::new().file("a", &half).file("b", &half).unpack_within(&limits);
    assert_eq!(done.unwrap_err().to_string(), "the archive has more than 1048576 bytes unpacked");
    assert_eq!(fs::read_dir(unpacked.target()).unwrap().count(), 0);
}

#[test]
fn a_small_archive_of_very_much_is_refused() {
    let limits = UnpackLimits { ratio: 50, ratio_free_bytes: 1 << 20, ..UnpackLimits::default() };
    let zeros = "\0".repeat(4 << 20);
    let (unpacked, done) = Place::new().file("zeros", &zeros).unpack_within(&limits);
    let text = done.unwrap_err().to_string();
    assert_eq!(text, "the archive has more than 50 bytes unpacked for each byte of the archive");
    assert_eq!(fs::read_dir(unpacked.target()).unwrap().count(), 0);
}

#[test]
fn a_huge_name_is_refused_before_it_is_kept() {
    let name = vec![b'n'; 100 << 10];
    Place::new()
        .raw(EntryType::GNULongName, "././@LongLink", "", &name)
        .file("f", "x")
        .refused("bytes of names in one header");
}

#[test]
fn a_second_opinion_on_the_size_is_refused() {
    Place::new().raw(EntryType::XHeader, "pax", "", b"10 size=5\n").file("f", "x").refused("size");
}

#[test]
fn a_cut_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tgz");
    let mut builder =
        tar::Builder::new(GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast()));
    let noise: Vec<u8> =
        (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut header = Header::new_gnu();
    header.set_size(noise.len() as u64);
    builder.append_data(&mut header, "noise", noise.as_slice()).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let target = folder.path().join("t");
    fs::create_dir(&target).unwrap();
    let error = unpack(&path, &target, &UnpackLimits::default()).unwrap_err();
    assert!(error.is_archives_fault(), "{error}");
    fs::write(&path, b"not gzip").unwrap();
    assert!(unpack(&path, &target, &UnpackLimits::default()).unwrap_err().is_archives_fault());
}

fn pack_all(work: &Path, baseline: &Baseline, limit: u64) -> (Packed, Vec<String>) {
    let archive = work.parent().unwrap().join("out.tgz");
    let first = [PathBuf::from("OAR.7.stdout")];
    let packed =
        pack(work, baseline, &first, Path::new("OAR.7.left-out"), &archive, limit).unwrap();
    let mut reader =
        tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&archive).unwrap()));
    let names = reader
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    (packed, names)
}

#[test]
fn the_result_holds_what_the_job_made_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    fs::create_dir_all(work.join("input")).unwrap();
    for name in ["same", "changed", "input/same"] {
        fs::write(work.join(name), "0").unwrap();
    }
    let baseline = Baseline::of(&work).unwrap();
    fs::write(work.join("changed"), "1").unwrap();
    fs::write(work.join("input/new"), "1").unwrap();
    fs::create_dir(work.join("made")).unwrap();
    fs::write(work.join("a"), "1").unwrap();
    fs::write(work.join("OAR.7.stdout"), "out").unwrap();
    symlink("a", work.join("inside")).unwrap();
    let (packed, names) = pack_all(&work, &baseline, 1 << 20);
    assert_eq!(names, ["OAR.7.stdout", "a", "changed", "inside", "made", "input/new"]);
    assert_eq!((packed.entries, packed.left_out.len()), (6, 0));

    let bytes = fs::read(folder.path().join("out.tgz")).unwrap();
    assert_eq!(packed.bytes, bytes.len() as u64);
}

#[test]
fn links_out_and_special_files_are_left_out_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(folder.path().join("secret"), "s").unwrap();
    symlink("../secret", work.join("out")).unwrap();
    symlink("/etc/passwd", work.join("absolute")).unwrap();
    nix::unistd::mkfifo(&work.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (packed, names) = pack_all(&work, &Baseline::default(), 1 << 20);
    assert_eq!(names, ["OAR.7.left-out"]);
    assert_eq!(packed.left_out.len(), 3);
}

#[test]
fn the_outputs_go_before_a_result_that_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("A-large"), "x".repeat(2000)).unwrap();
    fs::write(work.join("OAR.7.stdout"), "x".repeat(900)).unwrap();
    let (packed, names) = pack_all(&work, &Baseline::default(), 1000);
    assert_eq!(names, ["OAR.7.stdout", "OAR.7.left-out"]);
    assert!(packed.left_out[0].contains("A-large"));
}

#[test]
fn names_without_end_are_refused() {
    let mut place = Place::new();
    for number in 0..20 {
        let name = format!("{number}/{}", "n".repeat(200));
        place = place.raw(EntryType::GNULongName, "././@LongLink", "", name.as_bytes());
        place = place.file("short", "");
    }
    let limits = UnpackLimits { all_extension_bytes: 3_000, ..UnpackLimits::default() };
    let error = place.unpack_within(&limits).1.unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { what: "bytes of names", .. }), "{error}");
}

#[test]
fn what_a_deep_tree_hides_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    // Each name is short of the limit of a name, all of them are beyond the limit of a path.
    let script =
        "n=$(printf '%0200d' 0); for i in $(seq 30); do mkdir $n; cd -P $n; done; echo x > f";
    let made = std::process::Command::new("bash")
        .args(["-c", script])
        .current_dir(&work)
        .status()
        .unwrap();
    assert!(made.success());
    let archive = folder.path().join("out.tgz");
    let note = Path::new("left-out");
    let packed = pack(&work, &Baseline::default(), &[], note, &archive, 1 << 20).unwrap();
    assert_eq!(packed.left_out.len(), 1, "{:?}", packed.left_out);
    assert!(packed.left_out[0].ends_with("cannot be read"));
    agent::stage::remove::remove_tree(&work).unwrap();
}
